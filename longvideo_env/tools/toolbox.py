"""Tools of the master agent: requests, results, and the one place where they are called.

A tool agent is a plain object with one coroutine. It gets a request, which holds no gold, and
gives a `ToolReply` or raises `ToolError`. `Toolbox.call` turns either into a `ToolResult`: a
failure is data, never an exception and never a reward.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from longvideo_env.errors import LongVideoEnvError, ToolError
from longvideo_env.schema import Question, Video
from longvideo_env.sync import background_loop, run_immediate

if TYPE_CHECKING:
    from longvideo_env.tools.recording import Recording

ToolKind: TypeAlias = Literal["grounding", "vision"]


@dataclass(frozen=True, slots=True)
class GroundingRequest:
    """Asks for the clip of the video that matters.

    Attributes:
        question: The question; no gold.
        video: Its video.
        query: The master's own words, or None: the question and its options then serve.
        visited: Every clip shown so far. None of them may be returned while another is left.
        seed: For agents that draw at random.
    """

    question: Question
    video: Video = field(repr=False)
    query: str | None = None
    visited: tuple[str, ...] = ()
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """Plain values that identify the request."""
        return {
            "kind": "grounding",
            "qid": self.question.qid,
            "video_id": self.video.video_id,
            "query": self.query,
            "visited": list(self.visited),
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class VisionRequest:
    """Asks what the frames of the evidence window show.

    Attributes:
        question: The question; no gold.
        video: Its video.
        query: What the master wants to know.
        clip_ids: The clips of the evidence window, in order; the whole of each is looked at.
        seed: For agents that draw at random.
        boxes: What boxes of the clips are labelled; empty unless `unsafe_boxes` is set, because
            these labels name words of the right answer.
    """

    question: Question
    video: Video = field(repr=False)
    query: str = ""
    clip_ids: tuple[str, ...] = ()
    seed: int = 0
    boxes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Plain values that identify the request."""
        return {
            "kind": "vision",
            "qid": self.question.qid,
            "video_id": self.video.video_id,
            "query": self.query,
            "clip_ids": list(self.clip_ids),
            "seed": self.seed,
            **({"boxes": list(self.boxes), "leaky": True} if self.boxes else {}),
        }


ToolRequest: TypeAlias = GroundingRequest | VisionRequest


@dataclass(frozen=True, slots=True)
class ToolReply:
    """What an agent gives back.

    Attributes:
        value: A clip id (grounding) or a description (vision).
        details: Plain values worth keeping: scores, tokens used, frames sent.
    """

    value: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The outcome of a tool request. Exactly one of `value` and `error` is set.

    Attributes:
        kind: Which tool.
        agent: The agent's spec.
        value: A clip id of the video (grounding) or a description (vision).
        error: Why the tool failed.
        details: What the agent reported besides.
        latency_s: Wall-clock seconds that the call took.
    """

    kind: ToolKind
    agent: str
    value: str | None = None
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    latency_s: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the tool did its work."""
        return self.error is None


class GroundingAgent(Protocol):
    """Names the clip that matters.

    Attributes:
        immediate: True if the coroutine never suspends, so that it can be run without an event
            loop.
    """

    immediate: bool

    async def ground(self, request: GroundingRequest, /) -> ToolReply:
        """Return the id of a clip of the request's video.

        Raises:
            ToolError: The work could not be done.
        """
        ...


class VisionAgent(Protocol):
    """Describes what the frames of some clips show. `immediate` as in `GroundingAgent`."""

    immediate: bool

    async def look(self, request: VisionRequest, /) -> ToolReply:
        """Return a description that answers the request's query.

        Raises:
            ToolError: The work could not be done.
        """
        ...


class OracleGrounding:
    """Names the gold clip: an upper bound for grounding agents, never a fair one.

    The one tool that is given gold, which is why it lives here, is built by `build_toolbox` alone,
    and marks every summary as `oracle`. Once the gold clip is visited, or where it is unknown, it
    names the first clip not yet visited.

    Args:
        gold_clips: `str(qid)` to gold clip id.
    """

    immediate = True

    def __init__(self, gold_clips: Mapping[str, str]) -> None:
        self._gold_clips = gold_clips

    async def ground(self, request: GroundingRequest, /) -> ToolReply:
        """Return the gold clip, or the first one not visited."""
        gold = self._gold_clips.get(str(request.question.qid))
        if gold is not None and gold not in request.visited:
            return ToolReply(gold)
        left = unvisited(request)
        return ToolReply(left[0] if left else request.video.clip_ids[0])


class UnsafeBoxes:
    """Hands the boxes of the gold clip to a vision agent, as the published code does.

    They name words of the question and of the right answer, so that what is measured with them is
    no accuracy. Built by `build_toolbox` alone, where `unsafe_boxes` asks for it; everything that
    is then written says `leaky`.

    Args:
        agent: The vision agent.
        labels: `str(qid)` to the clip that the boxes are of, and their distinct labels.
    """

    def __init__(
        self, agent: VisionAgent, labels: Mapping[str, tuple[str, tuple[str, ...]]]
    ) -> None:
        self.agent = agent
        self.immediate = agent.immediate
        self._labels = labels

    async def look(self, request: VisionRequest, /) -> ToolReply:
        """Ask the agent, with the boxes if their clip is looked at."""
        reply = await self.agent.look(self.with_boxes(request))
        return ToolReply(reply.value, {**reply.details, "leaky": True})

    def with_boxes(self, request: VisionRequest) -> VisionRequest:
        """The request as the agent gets it."""
        clip_id, labels = self._labels.get(str(request.question.qid), ("", ()))
        if clip_id not in request.clip_ids or request.boxes == labels:
            return request
        return replace(request, boxes=labels)


def unvisited(request: GroundingRequest) -> tuple[str, ...]:
    """The clips that a grounding agent may name, in order: those not visited yet."""
    visited = set(request.visited)
    return tuple(clip_id for clip_id in request.video.clip_ids if clip_id not in visited)


@dataclass(frozen=True)
class Toolbox:
    """The agents of one environment. None stands for an agent that the rules do not offer.

    Attributes:
        grounding: The grounding agent.
        vision: The vision agent.
        grounding_spec: Its spec, for the record.
        vision_spec: Its spec, for the record.
        timeout_s: The most seconds that a call may take; a slower one is a failed result. None
            waits for as long as it takes. Agents that never suspend are not interrupted.
        recording: Where calls are recorded and replayed, or None.
    """

    grounding: GroundingAgent | None = None
    vision: VisionAgent | None = None
    grounding_spec: str = "none"
    vision_spec: str = "none"
    timeout_s: float | None = None
    recording: Recording | None = None

    async def call(self, request: ToolRequest) -> ToolResult:
        """Run a request. Never raises for what an agent does wrong: that is a failed result."""
        kind: ToolKind = "grounding" if isinstance(request, GroundingRequest) else "vision"
        _, spec = self._agent(request)
        start = time.perf_counter()
        try:
            reply = await self._dispatch_in_time(request)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever an agent raises is data
            ours = isinstance(error, LongVideoEnvError)
            message = str(error) if ours else f"{type(error).__name__}: {error}"
            return ToolResult(
                kind,
                spec,
                error=message or type(error).__name__,
                latency_s=time.perf_counter() - start,
            )
        return ToolResult(
            kind, spec, reply.value, details=reply.details, latency_s=time.perf_counter() - start
        )

    async def _dispatch_in_time(self, request: ToolRequest) -> ToolReply:
        agent, _ = self._agent(request)
        if self.timeout_s is None or agent is None or agent.immediate:
            return await self._dispatch(request)
        work = asyncio.ensure_future(self._dispatch(request))
        try:
            # Unlike `wait_for`, this does not wait for an agent that will not be cancelled.
            done, _ = await asyncio.wait({work}, timeout=self.timeout_s)
        finally:
            work.cancel()
        if not done:
            raise ToolError(f"no reply within {self.timeout_s:g} s, which is the limit.")
        return work.result()

    async def _dispatch(self, request: ToolRequest) -> ToolReply:
        agent, spec = self._agent(request)
        if self.recording is None or isinstance(agent, OracleGrounding):
            # What gold has chosen is never recorded: a recording is made to be published.
            return await self._ask(request)
        from longvideo_env.tools.keys import call_key, seed_was_read, watch_seed

        asked: object = agent
        if isinstance(agent, UnsafeBoxes) and isinstance(request, VisionRequest):
            asked, request = agent.agent, agent.with_boxes(request)
        watched = watch_seed(request)

        async def ask() -> tuple[ToolReply, bool]:
            return await self._ask(watched), seed_was_read(asked, watched)

        key = call_key(asked, spec, request)
        reply = await self.recording.call(key, ask, seed=request.seed)
        _check(reply, request)  # a recording is input like any other
        return reply

    async def _ask(self, request: ToolRequest) -> ToolReply:
        if isinstance(request, GroundingRequest):
            if self.grounding is None:
                raise ToolError("there is no grounding agent.")
            reply = await self.grounding.ground(request)
        elif self.vision is None:
            raise ToolError("there is no vision agent.")
        else:
            reply = await self.vision.look(request)
        _check(reply, request)
        return reply

    def _agent(self, request: ToolRequest) -> tuple[GroundingAgent | VisionAgent | None, str]:
        if isinstance(request, GroundingRequest):
            return self.grounding, self.grounding_spec
        return self.vision, self.vision_spec

    def call_blocking(self, request: ToolRequest) -> ToolResult:
        """`call` for synchronous drivers; works inside a running event loop, as in a notebook.

        Agents that never suspend run right here; others on the background loop.
        """
        agent, _ = self._agent(request)
        coroutine = self.call(request)
        # With a recording, an equal call of another thread may have to be waited for.
        if agent is None or (agent.immediate and self.recording is None):
            return run_immediate(coroutine)
        return asyncio.run_coroutine_threadsafe(coroutine, background_loop()).result()


def _check(reply: ToolReply, request: ToolRequest) -> None:
    if isinstance(request, GroundingRequest):
        _check_clip(reply.value, request)
    elif not isinstance(reply.value, str) or not reply.value.strip():
        raise ToolError(f"the vision agent returned {reply.value!r:.80}, not a description.")


def _check_clip(clip_id: object, request: GroundingRequest) -> None:
    if not isinstance(clip_id, str) or clip_id not in request.video:
        raise ToolError(
            f"the grounding agent named {clip_id!r:.80}, which is not a clip of video "
            f"{request.video.video_id!r}."
        )
    if clip_id in request.visited and unvisited(request):
        raise ToolError(f"the grounding agent named {clip_id!r}, which was visited already.")
