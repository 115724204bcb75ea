"""A judge: an agent that compares an answer with the right one after the episode.

    judge = build_judge(game, toolbox)              # None if no judge is configured
    play = await judge.see(play, question, gold)    # the play, with the judge's verdict

The judge decides whether a free-text answer is right. If the question has options, it is asked
about the text of the chosen option. Its verdict then changes no score; it only measures how often
the judge is right (`eval.metrics.judge_agreement`).

Judges are found through the entry points `longvideo_env.judges`. Such a callable takes the text
after the colon in the spec. It returns an object with `votes` (the number of votes) and `async
vote(prompt, number) -> ToolReply`, whose text contains CORRECT or INCORRECT.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol

from longvideo_env.choices import pinned_options
from longvideo_env.errors import LongVideoEnvError, StorageError
from longvideo_env.game.game import Game
from longvideo_env.game.reward import Play
from longvideo_env.records.trajectory import Judged
from longvideo_env.redaction import cleanse
from longvideo_env.schema import Gold, Question
from longvideo_env.tools.tool import ToolReply
from longvideo_env.tools.toolbox import Recorder, Toolbox

_VERDICT = re.compile(r"\b(in)?correct\b", re.IGNORECASE)


class JudgeAgent(Protocol):
    """Who is asked.

    Attributes:
        votes: Number of votes for a verdict; odd.
    """

    votes: int

    async def vote(self, prompt: str, number: int, /) -> ToolReply:
        """The text of one vote, and its usage.

        Raises:
            ToolError: The vote failed.
        """
        ...

    def record_key(self, prompt: str, number: int, /) -> Mapping[str, Any]:
        """What a vote depends on besides the prompt."""
        ...


@dataclass(frozen=True)
class Judge:
    """A judge in the words of a game.

    Attributes:
        agent: The agent that votes.
        spec: Its spec.
        game: The game whose words make the prompt.
        recording: Recording of the votes, or None.
    """

    agent: JudgeAgent
    spec: str
    game: Game
    recording: Recorder | None = None

    async def see(self, play: Play, question: Question, gold: Gold) -> Play:
        """The play with the judge's verdict. Unchanged if there is no answer to judge.

        Raises:
            StorageError: The recording cannot be written.
        """
        answers = answers_to_judge(play, question, gold)
        if answers is None:
            return play
        return replace(play, judged=await self.judge(question.text, *answers))

    async def judge(self, question: str, said: str, right: str) -> Judged:
        """The verdict of the majority of votes. If a vote fails, `Judged.error` says why.

        Raises:
            StorageError: The recording cannot be written.
        """
        prompt = self.game.judge_text(question, right, said)
        try:
            replies = await asyncio.gather(
                *(self._vote(prompt, number) for number in range(self.agent.votes))
            )
        except StorageError:
            raise
        except LongVideoEnvError as error:
            return Judged(self.spec, error=cleanse(str(error)))
        except Exception as error:  # noqa: BLE001 - the boundary: a judge's exception is data
            return Judged(self.spec, error=cleanse(f"{type(error).__name__}: {error}"))
        votes = tuple(read_verdict(reply.text) for reply in replies)
        usage = tuple(reply.details for reply in replies if reply.details)
        judged = settled(Judged(self.spec, votes=votes, usage=usage))
        if judged.right is not None:
            return judged
        text = " ".join(replies[0].text.split())
        problem = f"{votes.count(1)} votes to {votes.count(0)}, of {len(votes)}"
        return replace(judged, error=cleanse(f"{problem}; the first reply was {text!r:.80}"))

    async def _vote(self, prompt: str, number: int) -> ToolReply:
        async def ask() -> tuple[ToolReply, bool]:
            return await self.agent.vote(prompt, number), False

        if self.recording is None:
            return (await ask())[0]
        # The prompt contains the right answer and recordings get published, so only its hash is
        # stored.
        digest = blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        key = {**self.agent.record_key(prompt, number), "kind": "judge", "prompt": digest}
        return await self.recording.call({**key, "vote": number}, ask)


def build_judge(game: Game, toolbox: Toolbox) -> Judge | None:
    """The judge of an environment, or None."""
    agent = toolbox.agents.get("judge")
    return None if agent is None else Judge(agent, toolbox.specs["judge"], game, toolbox.recording)


def answers_to_judge(play: Play, question: Question, gold: Gold) -> tuple[str, str] | None:
    """`(said, right)` as texts. None if there is no answer or no text for it.

    Also None for an option that refers to others ("both A and B").
    """
    if play.status != "answered":
        return None
    if question.options:
        if play.choice is None or gold.answer is None:
            return None
        if {play.choice, gold.answer} & {*pinned_options(question.options)}:
            return None
        return question.options[play.choice], question.options[gold.answer]
    if gold.text is None or gold.when or play.said is None:
        return None
    return play.said, gold.text


def settled(judged: Judged) -> Judged:
    """The verdict of the majority of votes. None for a tie."""
    yes, no = judged.votes.count(1), judged.votes.count(0)
    return replace(judged, right=None if yes == no else yes > no)


def read_verdict(text: str) -> int | None:
    """1 for CORRECT, 0 for INCORRECT, None for neither or both. Never raises."""
    found = {match[1] is None for match in _VERDICT.finditer(text)}
    return int(found.pop()) if len(found) == 1 else None
