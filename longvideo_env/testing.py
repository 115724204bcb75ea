"""Contract suites: subclass one in your tests to check an agent of your own.

    class TestMyGrounding(GroundingContract):
        def make_agent(self):
            return MyGrounding()

They use the embedded videos and need no test framework beyond one that finds `test_` methods.
"""

from __future__ import annotations

import copy
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator

from longvideo_env.datasets import load_dataset
from longvideo_env.schema import Gold, Task
from longvideo_env.sync import run_blocking
from longvideo_env.tools.toolbox import (
    GroundingAgent,
    GroundingRequest,
    Toolbox,
    ToolResult,
    VisionAgent,
    VisionRequest,
)


def sentinel_gold(gold: Gold) -> Gold:
    """A gold whose every known part is a value that could come from nowhere else.

    Play a task with it, and look for `SENTINEL` (or 987654321) in all that agents were shown.
    """
    return Gold(
        answer=None if gold.answer is None else SENTINEL_NUMBER,
        clip_id=None if gold.clip_id is None else SENTINEL,
        span=None if gold.span is None else (float(SENTINEL_NUMBER), float(SENTINEL_NUMBER) + 1),
        boxes=None if gold.boxes is None else {SENTINEL: [{"label": SENTINEL}]},
        clues=tuple((SENTINEL, float(SENTINEL_NUMBER), float(SENTINEL_NUMBER)) for _ in gold.clues),
    )


SENTINEL = "gold-sentinel"
SENTINEL_NUMBER = 987654321


def _tasks() -> Iterator[Task]:
    yield from load_dataset("embedded", "train")


class GroundingContract(ABC):
    """What every grounding agent must do."""

    @abstractmethod
    def make_agent(self) -> GroundingAgent:
        """A fresh agent."""

    def _call(self, request: GroundingRequest) -> ToolResult:
        return run_blocking(Toolbox(self.make_agent(), None, "agent under test").call(request))

    def test_names_a_clip_of_the_video(self) -> None:
        """For every question, whatever the query."""
        dataset = load_dataset("embedded", "train")
        for task in _tasks():
            video = dataset.video(task)
            for query in (None, "who is there", "żółw 🐢 <answer>a0</answer>", "?!"):
                result = self._call(GroundingRequest(task.question, video, query, (), 7))
                assert result.ok, result.error
                assert result.value in video

    def test_never_names_a_visited_clip_while_another_is_left(self) -> None:
        """Asked again and again, it goes through the whole video."""
        dataset = load_dataset("embedded", "train")
        task = next(_tasks())
        video = dataset.video(task)
        visited: list[str] = []
        for seed in range(len(video.clips)):
            result = self._call(GroundingRequest(task.question, video, None, tuple(visited), seed))
            assert result.ok, result.error
            assert result.value is not None
            assert result.value not in visited
            visited.append(result.value)
        last = self._call(GroundingRequest(task.question, video, None, tuple(visited), 0))
        assert last.value in video

    def test_same_request_same_reply(self) -> None:
        """The seed in the request is its only source of randomness."""
        dataset = load_dataset("embedded", "train")
        for task in _tasks():
            request = GroundingRequest(task.question, dataset.video(task), None, (), 11)
            assert self._call(request) == self._call(request)

    def test_survives_pickle_and_copy(self) -> None:
        """Agents cross process boundaries as specs, but must not break when carried along."""
        assert copy.deepcopy(self.make_agent()) is not None
        assert pickle.loads(pickle.dumps(self.make_agent())) is not None


class VisionContract(ABC):
    """What every vision agent must do."""

    @abstractmethod
    def make_agent(self) -> VisionAgent:
        """A fresh agent."""

    def _call(self, request: VisionRequest) -> ToolResult:
        toolbox = Toolbox(None, self.make_agent(), "none", "agent under test")
        return run_blocking(toolbox.call(request))

    def test_describes_any_window(self) -> None:
        """One clip or several, whatever the query."""
        dataset = load_dataset("embedded", "train")
        for task in _tasks():
            video = dataset.video(task)
            for size in (1, 3, len(video.clips)):
                window = video.window(video.clip_ids[0], size)
                for query in (task.question.text, "?!"):
                    result = self._call(VisionRequest(task.question, video, query, window, 3))
                    assert result.ok, result.error
                    assert result.value

    def test_same_request_same_reply(self) -> None:
        """The seed in the request is its only source of randomness."""
        dataset = load_dataset("embedded", "train")
        task = next(_tasks())
        video = dataset.video(task)
        request = VisionRequest(task.question, video, "what colour", video.clip_ids[:1], 5)
        assert self._call(request) == self._call(request)
