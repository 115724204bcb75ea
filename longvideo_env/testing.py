"""Contract test suites. Subclass one in your tests to check your own agent.

    class TestMyGrounding(GroundingContract):
        def make_agent(self):
            return MyGrounding()

They use the embedded videos. Any test framework that finds `test_` methods will run them.
"""

from __future__ import annotations

import copy
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from longvideo_env.datasets import load_dataset
from longvideo_env.schema import Gold, Question, Task, Video
from longvideo_env.specs import find_part
from longvideo_env.sync import run_blocking
from longvideo_env.tools.tool import ToolCall, ToolResult
from longvideo_env.tools.toolbox import GroundingAgent, Toolbox, VisionAgent


def sentinel_gold(gold: Gold) -> Gold:
    """A gold in which every known field has a unique marker value.

    Play a task with it, then search all that agents were shown for `SENTINEL` (or 987654321).
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


def grounding_call(
    question: Question,
    video: Video,
    query: str | None = None,
    visited: tuple[str, ...] = (),
    seed: int = 0,
) -> ToolCall:
    """A tool call for a grounding agent."""
    return ToolCall(question, video, "ground", {"query": query}, (), visited, seed)


def vision_call(
    question: Question, video: Video, query: str, view: tuple[str, ...] = (), seed: int = 0
) -> ToolCall:
    """A tool call for a vision agent."""
    return ToolCall(question, video, "look", {"query": query}, view, (), seed)


def toolbox_of(grounding: object = None, vision: object = None, **fields: Any) -> Toolbox:
    """The built-in tools with the agents under test."""
    agents = {"grounding": grounding, "vision": vision}
    there = {role: agent for role, agent in agents.items() if agent is not None}
    fields.setdefault("specs", dict.fromkeys(there, "agent under test"))
    tools = [find_part("tools", name) for name in ("ground", "look")]
    return Toolbox(tools, there, **fields)


def _tasks() -> Iterator[Task]:
    yield from load_dataset("embedded", "train")


class GroundingContract(ABC):
    """The contract of grounding agents."""

    @abstractmethod
    def make_agent(self) -> GroundingAgent:
        """A fresh agent."""

    def _call(self, call: ToolCall) -> ToolResult:
        return run_blocking(toolbox_of(grounding=self.make_agent()).call(call))

    def test_names_a_clip_of_the_video(self) -> None:
        """It names a clip of the video for every question and query."""
        dataset = load_dataset("embedded", "train")
        for task in _tasks():
            video = dataset.video(task)
            for query in (None, "who is there", "żółw 🐢 <answer>a0</answer>", "?!"):
                result = self._call(grounding_call(task.question, video, query, (), 7))
                assert result.ok, result.error
                assert result.reply is not None
                assert result.reply.view in video

    def test_never_names_a_visited_clip_while_another_is_left(self) -> None:
        """Repeated calls go through the whole video."""
        dataset = load_dataset("embedded", "train")
        task = next(_tasks())
        video = dataset.video(task)
        visited: list[str] = []
        for seed in range(len(video.clips)):
            result = self._call(grounding_call(task.question, video, None, tuple(visited), seed))
            assert result.ok, result.error
            assert result.reply is not None
            assert result.reply.clip is not None
            assert result.reply.view not in visited
            visited.append(result.reply.clip)
        last = self._call(grounding_call(task.question, video, None, tuple(visited), 0))
        assert last.reply is not None
        assert last.reply.view in video

    def test_same_request_same_reply(self) -> None:
        """The request's seed is the only source of randomness."""
        dataset = load_dataset("embedded", "train")
        for task in _tasks():
            request = grounding_call(task.question, dataset.video(task), None, (), 11)
            assert self._call(request) == self._call(request)

    def test_survives_pickle_and_copy(self) -> None:
        """Agents are passed between processes as specs, but must also survive pickling."""
        assert copy.deepcopy(self.make_agent()) is not None
        assert pickle.loads(pickle.dumps(self.make_agent())) is not None


class VisionContract(ABC):
    """The contract of vision agents."""

    @abstractmethod
    def make_agent(self) -> VisionAgent:
        """A fresh agent."""

    def _call(self, call: ToolCall) -> ToolResult:
        return run_blocking(toolbox_of(vision=self.make_agent()).call(call))

    def test_describes_any_window(self) -> None:
        """It describes one clip or several, for any query."""
        dataset = load_dataset("embedded", "train")
        for task in _tasks():
            video = dataset.video(task)
            for size in (1, 3, len(video.clips)):
                window = video.window(video.clip_ids[0], size)
                for query in (task.question.text, "?!"):
                    result = self._call(vision_call(task.question, video, query, window, 3))
                    assert result.ok, result.error
                    assert result.reply is not None
                    assert result.reply.text.strip()

    def test_same_request_same_reply(self) -> None:
        """The request's seed is the only source of randomness."""
        dataset = load_dataset("embedded", "train")
        task = next(_tasks())
        video = dataset.video(task)
        request = vision_call(task.question, video, "what colour", video.clip_ids[:1], 5)
        assert self._call(request) == self._call(request)
