"""`LongTVQA-v0`: the Gymnasium environment."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from longvideo_env.config import EnvConfig, live_parts
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.forms import open_questions
from longvideo_env.drivers.render import render_transcript
from longvideo_env.drivers.rollout import open_episode, play_of
from longvideo_env.drivers.spaces import ReplySpace, TextSpace
from longvideo_env.errors import DatasetNotFoundError, EpisodeStateError, SpecError, ToolError
from longvideo_env.game.episode import Ended, Episode
from longvideo_env.game.game import Game
from longvideo_env.game.judging import build_judge
from longvideo_env.game.policy import Observation
from longvideo_env.game.reward import Play, Reward, Score, score, score_async
from longvideo_env.records.trajectory import Judged, TurnRecord
from longvideo_env.schema import Gold, Question, Task
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import ToolCall, ToolResult
from longvideo_env.tools.toolbox import Toolbox

StepReturn = tuple[str, float, bool, bool, dict[str, Any]]


class LongTVQAEnv(gym.Env[str, str]):
    """Answer a multiple-choice question about a long video, turn by turn, in text.

    ## Description
    The player is the *master agent* of LongVideoAgent (arXiv 2512.20618). It does not see the
    video. It reads the question, the options and the subtitles of one evidence window. In each turn
    it does one of three things: ask the grounding agent for another clip, ask the vision agent
    about the frames of the window, or answer.

    ## Action Space
    A `ReplySpace`: any text. It should contain reasoning and then exactly one action:

    | action | written as |
    |---|---|
    | look | `<search>what you want to know</search>`, or `<visual_query>` |
    | ground | `<request_grounding>what to look for</request_grounding>`, or empty |
    | answer | `<answer>a0</answer>` |

    Tags inside `<reasoning>` or `<think>` do not count. A reply without exactly one action is a
    malformed turn: the observation says what is wrong, and the turn counts. `action_space.sample()`
    draws well-formed actions.

    With `protocol="functions"` an action is JSON: either one call, `{"name": "look", "arguments":
    {"query": "who?"}}`, or an assistant message in the OpenAI format.

    ## Observation Space
    A `TextSpace`. After a reset: the rules, the question, its options, and the first window's
    subtitles. After a step: the vision agent's description inside `<information>`, the new window's
    subtitles inside `<New_clip>`, or what was wrong with the reply; then the number of turns left.
    The observation before the last turn says that it is the last.

    ## Starting State
    `reset(seed=...)` shuffles the split by the seed and opens the first question. Each further
    `reset()` opens the next one. `reset(options={"qid": 122636})` opens a given question. The
    grounding agent chooses the first clip. With `grounding="none"` the video opens at its first
    clip.

    ## Rewards
    0 until the episode ends, then the weighted sum of the reward terms. `reward="paper"`: 1 for the
    right answer + 0.1 * the share of well-formed turns; `reward="reference"`: 1 + 0.2 for a
    reasoning block + 0.2 for an answer block; `reward="paper,grounding=0.3"` adds 0.3 where the
    gold clip was visited. If a tool failed or the question has no gold answer, the reward is 0 and
    `info["reward_valid"]` is False. Leave such episodes out.

    ## Episode End
    Terminated when the master answers. Truncated when no turn is left, or when a tool fails.

    ## Information
    Always: `qid`, `video_id`, `turn` (turns taken), `turns_left`, `visited` (clips shown), `window`
    (clips seen now), `opened_by` (who chose the first clip), `messages` (the conversation as chat
    messages). With `protocol="functions"`: `tools` (JSON schemas). With `frames=N`: `frames` (for
    each message its frames, with `path`, `clip_id` and `time_s`). After a step: `action` (`look`,
    `ground`, `answer` or None) and `malformed` (the kind of mistake, or None). At the end:
    `status`, `reward_valid`, `reward_terms`, `is_success`, `grounded`, `error`; with `ask="words"`
    or `ask="when"` also `answer_scores`, and with a judge `judged`. No gold is shown before the
    end.

    ## Arguments
    The fields of `longvideo_env.EnvConfig`:

    ```python
    gym.make(
        "LongTVQA-v0",
        dataset="mini",
        split="train",
        grounding="bm25",
        ground_action=True,
        vision="captions",
        max_turns=5,
        window=1,
        protocol="tags",
        tags="reference",
        instructions=True,
        reward="paper",
        ask="choice",
        labels="a0",
        judge="none",
        frames=0,
        resolution=448,
        shuffle_options=False,
        frames_root=None,
        skip_invalid=False,
        recording="off",
        recording_file=None,
        unsafe_boxes=False,
    )
    ```

    `dataset="mini"` is a procedural world of small videos, `dataset="embedded"` a few that were
    written by hand; or pass a folder. `instructions=False` leaves the rules out of the prompt, for
    policies that were trained on the game. `render_mode="ansi"` makes `render()` return the
    transcript so far.

    ## Version History
    - v0: first release.

    Raises:
        SpecError: An option is invalid.
        DataError: The dataset is missing or invalid.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - as gym.Env

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise SpecError(f"render_mode must be None or 'ansi', got {render_mode!r}.")
        self.render_mode = render_mode
        self.config = EnvConfig.from_mapping(options)
        self.game = Game.from_config(self.config)
        self._clear()
        self._load()
        self.observation_space = TextSpace()
        self.action_space = ReplySpace(self.game, n_options=self.dataset.fewest_options)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Open a question.

        Args:
            seed: Shuffles the split anew.
            options: `{"qid": ...}` opens a given question.

        Raises:
            SpecError: An option is unknown.
            DataError: No question has this id.
            ToolError: The grounding agent failed on the first clip.
        """
        call = self._begin(seed, options)
        return self._opened(None if call is None else self.toolbox.call_blocking(call))

    def step(self, action: str) -> StepReturn:
        """Take one turn with the master's reply.

        Raises:
            ActionError: The action is not text.
            EpisodeStateError: `reset` was not called, or the episode is over.
        """
        move = self._playing.reply(action)
        if isinstance(move, ToolCall):
            move = self._playing.receive(self.toolbox.call_blocking(move))
        if isinstance(move, Observation):
            return self._next(move)
        return self._finish()

    async def reset_async(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """`reset` for an event loop: other coroutines run while a tool works."""
        call = self._begin(seed, options)
        return self._opened(None if call is None else await self.toolbox.call(call))

    async def step_async(self, action: str) -> StepReturn:
        """`step` for an event loop: other coroutines run while a tool works."""
        move = self._playing.reply(action)
        if isinstance(move, ToolCall):
            move = self._playing.receive(await self.toolbox.call(move))
        if isinstance(move, Observation):
            return self._next(move)
        return self._end(await score_async(*await self._judged()))

    def stop(self) -> StepReturn:
        """End the episode because the player cannot continue, for example with a full context."""
        self._playing.stop_for_context()
        return self._finish()

    def twin(self) -> LongTVQAEnv:
        """Another environment with the same configuration. It shares the dataset and the agents."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._clear()
        return twin

    @property
    def observation(self) -> Observation:
        """The latest observation, as fields."""
        return self._playing.observations[-1]

    @property
    def turns(self) -> list[TurnRecord]:
        """What happened in each turn so far."""
        return self._playing.turns

    @property
    def question(self) -> Question:
        """The question that is being played."""
        return self._playing.question

    @property
    def _playing(self) -> Episode:
        if self._episode is None:
            raise EpisodeStateError("no episode was started. Fix: call reset() first.")
        return self._episode

    def render(self) -> str | None:
        """The transcript so far, for a person to read."""
        if self.render_mode is None or self._episode is None:
            return None
        return render_transcript(self._episode, self._score)

    def __getstate__(self) -> dict[str, Any]:
        # Only the configuration is pickled. Dataset, game and agents are built again; an unfinished
        # episode is not kept.
        for name in live_parts(self.config):
            try:
                pickle.dumps(getattr(self.config, name))
            except Exception as error:
                raise SpecError(
                    f"the environment cannot be pickled: its option {name} holds an object that "
                    f"cannot be pickled ({error}). Fix: name it as module:attribute."
                ) from error
        state = self.__dict__.copy()
        for name in ("dataset", "toolbox", "_judge"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load()

    def _load(self) -> None:
        config = self.config
        self.dataset: Dataset = open_questions(config)
        if not self.dataset.tasks:
            raise DatasetNotFoundError(
                f"expected questions in {config.dataset!r}, split {config.split!r}, but all "
                f"{len(self.dataset.skipped)} rows were left out because they are invalid.",
                mend="look at the rows with load_dataset(..., skip_invalid=True).skipped.",
            )
        self.toolbox: Toolbox = build_toolbox(config, self.dataset)
        self._judge = build_judge(self.game, self.toolbox)

    def _clear(self) -> None:
        self._episode: Episode | None = None
        self._task: Task | None = None
        self._score: Score | None = None
        self._verdict: Judged | None = None
        self._seed: int | None = None
        self._np_random = None
        self._np_random_seed = None
        self._walk: NDArray[np.int32] = np.empty(0, np.int32)

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> ToolCall | None:
        super().reset(seed=seed)
        if seed is not None:
            self._walk = self._walk[:0]
        if self._seed is None or seed is not None:
            self._seed = int(self.np_random.integers(2**31)) if seed is None else seed
        shuffle = self.config.shuffle_options
        picked = self._pick(options or {})
        opened = open_episode(picked, self.dataset, self.game, self._seed, shuffle=shuffle)
        self._task, self._episode = opened.task, opened.episode
        self._score = self._verdict = None
        return opened.episode.start()

    def _opened(self, first: ToolResult | None) -> tuple[str, dict[str, Any]]:
        episode = self._playing
        if first is not None and isinstance(episode.receive(first), Ended):
            raise ToolError(f"question {episode.question.qid}: no first clip: {episode.error}")
        return "\n\n".join(message["content"] for message in episode.messages), self._info()

    def _next(self, seen: Observation) -> StepReturn:
        return seen.text, 0.0, False, False, self._step_info()

    def _pick(self, options: dict[str, Any]) -> Task:
        unknown = sorted(set(options) - {"qid"})
        if unknown:
            raise SpecError(f"unknown reset option {unknown[0]!r}; options: qid.")
        if "qid" in options:
            return self.dataset.task(options["qid"])
        if not len(self._walk):
            self._walk = self.np_random.permutation(len(self.dataset)).astype(np.int32)
        last, self._walk = int(self._walk[-1]), self._walk[:-1]
        return self.dataset.tasks[last]

    def _finish(self) -> StepReturn:
        assert self._task is not None
        if self._judge is None:
            return self._end(score(play_of(self._playing), self._task.gold, self.game.reward))
        return self._end(score(*run_blocking(self._judged())))

    async def _judged(self) -> tuple[Play, Gold, Reward]:
        assert self._task is not None
        play, task = play_of(self._playing), self._task
        if self._judge is not None:
            play = await self._judge.see(play, task.question, task.gold)
        self._verdict = play.judged
        return play, task.gold, self.game.reward

    def _end(self, result: Score) -> StepReturn:
        assert self._episode is not None
        self._score = result
        terminated = self._episode.status == "answered"
        choice = self._episode.choice
        text = str.__str__(self.game.ended_text(choice, self._episode.status or ""))
        info = self._step_info() | {
            "status": self._episode.status,
            "reward_valid": result.reward is not None,
            "reward_terms": dict(result.terms),
            "is_success": result.correct,
            "grounded": result.grounded,
            "error": self._episode.error or result.error,
        }
        if result.answer:
            info["answer_scores"] = dict(result.answer)
        if self._verdict is not None:
            info["judged"] = self._verdict
        return text, float(result.reward or 0.0), terminated, not terminated, info

    def _step_info(self) -> dict[str, Any]:
        assert self._episode is not None
        last = self._episode.turns[-1] if self._episode.turns else None
        info = self._info()
        info["action"] = None if last is None else last.action
        info["malformed"] = None if last is None else last.malformed
        return info

    def _info(self) -> dict[str, Any]:
        episode = self._episode
        assert episode is not None
        tools = self.game.schemas(len(episode.question.options))
        info: dict[str, Any] = {"tools": list(tools)} if tools else {}
        if self.config.frames:
            info["frames"] = [list(message.get("frames", ())) for message in episode.messages]
        return info | {
            "qid": episode.question.qid,
            "video_id": episode.video.video_id,
            "turn": len(episode.turns),
            "turns_left": episode.turns_left,
            "visited": list(episode.visited),
            "window": list(episode.view),
            "opened_by": self.config.grounding if episode.first else "start of the video",
            "messages": list(episode.messages),
        }
