"""The game for systems with function calling. `answer` is a tool, too.

    stage = CallStage(EnvConfig(dataset="mini", split="test"))
    play = stage.open("mini-7")          # `seed=` as in `env.reset(seed=...)`
    print(play.start())                  # the opening
    print(play.call("look", {"query": "who is there"}))
    play.call("answer", {"answer": "a0"})
    print(play.score().reward)

State machine, tools, words and reward are the same as with `gym.make`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from longvideo_env.config import WHEN, EnvConfig
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.forms import open_questions
from longvideo_env.drivers.rollout import Opened, open_episode, play_of
from longvideo_env.errors import DatasetNotFoundError
from longvideo_env.game.episode import Ended, Move
from longvideo_env.game.game import Game
from longvideo_env.game.judging import Judge, build_judge
from longvideo_env.game.policy import Message, Observation
from longvideo_env.game.protocol.answers import EXPECTED_SPAN
from longvideo_env.game.protocol.base import ANSWER, Malformed, MalformedKind
from longvideo_env.game.reward import Score, score, score_async
from longvideo_env.schema import Qid, Task
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import Tool, as_tool
from longvideo_env.tools.toolbox import Toolbox


def answer(request: Any, answer: str) -> str:  # noqa: D417 - the request is no argument
    """Answers the question and ends the episode.

    Args:
        answer: the label of one option, such as a0; or a few words where there are no options
    """
    raise AssertionError("the episode takes the answer itself")


def answer_tool(game: Game) -> Callable[..., str]:
    """The tool `answer`, with the game's name for it and a description of its form."""
    form, name = game.protocol.answers, game.protocol.tag(ANSWER)
    usual = form.labels == "a0" and form.ask != WHEN
    if usual and name == ANSWER:
        return answer
    label = f"the label of one option, such as {form.label(0)}"
    other = EXPECTED_SPAN if form.ask == WHEN else "a few words"
    said = f"{label}; or {other} where there are no options"

    def described(request: Any, answer: str) -> str:
        raise AssertionError("the episode takes the answer itself")

    described.__name__ = name
    head = (answer.__doc__ or "").partition("Args:")[0]
    described.__doc__ = answer.__doc__ if usual else f"{head}Args:\n    answer: {said}\n"
    return described


@dataclass(frozen=True)
class CallStage:
    """Plays episodes of one configuration by function calls.

    Attributes:
        config: The environment.

    Raises:
        LongVideoEnvError: An option or the dataset is invalid.
    """

    config: EnvConfig

    def __post_init__(self) -> None:
        self.config.text_only("an integration with function calls")

    @cached_property
    def game(self) -> Game:
        """The game with the protocol `functions`."""
        return Game.from_config(replace(self.config, protocol="functions"))

    @cached_property
    def dataset(self) -> Dataset:
        """The questions with their gold. An integration may pass on only `Question` and `Video`."""
        config = self.config
        dataset = open_questions(config)
        if not len(dataset):
            raise DatasetNotFoundError(
                f"{config.dataset!r}, split {config.split!r} has no questions."
            )
        return dataset

    @cached_property
    def toolbox(self) -> Toolbox:
        """The tools, with the agents behind them."""
        return build_toolbox(self.config, self.dataset)

    @cached_property
    def judge(self) -> Judge | None:
        """The judge of answers in words, or None."""
        return build_judge(self.game, self.toolbox)

    @cached_property
    def tools(self) -> tuple[Tool, ...]:
        """The offered tools; `answer` is last."""
        return (*self.game.offered, as_tool(answer_tool(self.game)))

    def open(self, qid: Qid, seed: int = 0) -> CalledEpisode:
        """A new episode of a question, not started yet.

        Args:
            qid: The question's id.
            seed: Same as in `env.reset(seed=seed, options={"qid": qid})`.

        Raises:
            DataError: No question has this id.
        """
        return self.open_task(self.dataset.task(qid), seed)

    def open_task(self, task: Task, seed: int = 0) -> CalledEpisode:
        """`open`, for a given task."""
        shuffle = self.config.shuffle_options
        opened = open_episode(task, self.dataset, self.game, seed, shuffle=shuffle)
        return CalledEpisode(self, opened)

    def rules(self, n_options: int) -> str | None:
        """The system message. None if the game has none."""
        return str.__str__(self.game.rules_text(n_options)) if self.game.instructions else None

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}  # the rest is built again from it


class CalledEpisode:
    """One episode, played by calls. A failing tool ends the episode; it does not raise.

    Args:
        stage: The stage that it belongs to.
        opened: The episode and its task.

    Attributes:
        has_reasoning: Whether the next call has reasoning. An integration that sees whole replies
            sets it; otherwise it stays False.
    """

    def __init__(self, stage: CallStage, opened: Opened) -> None:
        self._stage = stage
        self.task = opened.task
        self.order = opened.order
        self.episode = opened.episode
        self.has_reasoning = False

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.episode.status is not None

    @property
    def messages(self) -> list[Message]:
        """The conversation so far."""
        return self.episode.messages

    def start(self) -> str:
        """Open the video. Returns the first user message."""
        call = self.episode.start()
        if call is not None:
            return self._say(self.episode.receive(self._stage.toolbox.call_blocking(call)))
        return self.messages[-1]["content"]

    async def start_async(self) -> str:
        """`start` for an event loop."""
        call = self.episode.start()
        if call is not None:
            return self._say(self.episode.receive(await self._stage.toolbox.call(call)))
        return self.messages[-1]["content"]

    def call(self, name: str, values: Mapping[str, Any]) -> str:
        """Take a tool call. Returns the next text for the master."""
        move = self._move(name, values)
        if not isinstance(move, Observation | Ended):
            move = self.episode.receive(self._stage.toolbox.call_blocking(move))
        return self._say(move)

    async def call_async(self, name: str, values: Mapping[str, Any]) -> str:
        """`call` for an event loop."""
        move = self._move(name, values)
        if not isinstance(move, Observation | Ended):
            move = self.episode.receive(await self._stage.toolbox.call(move))
        return self._say(move)

    def refuse(self, kind: MalformedKind, text: str, **details: Any) -> str:
        """Take a reply that is not one call. Returns the next text for the master."""
        return self._say(self.episode.act(Malformed(kind, details), text))

    def score(self) -> Score:
        """Reward and facts. An unfinished episode is ended first, as if no turn were left."""
        self._end()
        if self._stage.judge is not None:
            return run_blocking(self.score_async())
        return score(play_of(self.episode), self.task.gold, self._stage.game.reward)

    async def score_async(self) -> Score:
        """`score` for an event loop."""
        self._end()
        play, judge = play_of(self.episode), self._stage.judge
        if judge is not None:
            play = await judge.see(play, self.task.question, self.task.gold)
        return await score_async(play, self.task.gold, self._stage.game.reward)

    def _move(self, name: str, values: Mapping[str, Any]) -> Move:
        if self.over:
            return Ended(self.episode.status or "failed")
        text = json.dumps(
            {"name": name, "arguments": dict(values)}, ensure_ascii=False, default=str
        )
        read = self._stage.game.protocol.parse(text, self.episode.question.options)
        return self.episode.act(read.outcome, text, has_reasoning=self.has_reasoning)

    def _say(self, move: Move) -> str:
        if isinstance(move, Observation):
            return move.text
        episode = self.episode
        if episode.status == "failed":
            return "The episode is over: a tool failed."
        return str.__str__(self._stage.game.ended_text(episode.choice, episode.status or ""))

    def _end(self) -> None:
        if not self.over:
            self.episode.stop()
