"""Calls the tools. A failure becomes a failed result, never an exception or a reward.

Recording, deadlines, sharing of equal calls and checks of replies apply to every tool.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from longvideo_env.errors import LongVideoEnvError, StorageError, ToolError
from longvideo_env.redaction import cleanse
from longvideo_env.sync import background_loop, run_immediate
from longvideo_env.timeline import length_s
from longvideo_env.tools.tool import Tool, ToolCall, ToolReply, ToolResult
from longvideo_env.tools.with_gold import OracleGrounding, UnsafeBoxes

if TYPE_CHECKING:
    from longvideo_env.tools.recording import Asked, RecordingStats


class GroundingAgent(Protocol):
    """Names the relevant clip. Used by the tool `ground`.

    Attributes:
        immediate: True if the coroutine never suspends. It can then run without an event loop.
    """

    immediate: bool

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return the id of a clip of the video as the reply's text.

        Raises:
            ToolError: The agent failed.
        """
        ...


class VisionAgent(Protocol):
    """Describes the frames of some clips. `immediate` as in `GroundingAgent`."""

    immediate: bool

    async def look(self, request: ToolCall, /) -> ToolReply:
        """Return a description that answers the request's query.

        Raises:
            ToolError: The agent failed.
        """
        ...


class Recorder(Protocol):
    """Makes equal calls once: a `Recording`, or a proxy for one in another process.

    Attributes:
        mode: `record`, `replay` or `reuse`.
        stats: Counts of tool calls.
        policy_stats: Counts of policy calls.
    """

    mode: str
    stats: RecordingStats
    policy_stats: RecordingStats

    async def call(
        self,
        key: Mapping[str, Any],
        ask: Callable[[], Awaitable[Asked]],
        *,
        seed: int | None = None,
        stats: RecordingStats | None = None,
    ) -> ToolReply:
        """See `Recording.call`."""
        ...


@dataclass(frozen=True)
class Toolbox:
    """The tools of one environment, with their agents.

    Attributes:
        tools: The tools, in the order offered.
        agents: Role, such as `grounding` -> agent. Roles without an agent are missing.
        specs: Role -> the agent's spec, for the record.
        timeout_s: Maximum seconds of a call; a slower call fails. None means no limit. A call that
            never suspends is not interrupted.
        recording: Recording for record and replay, or None.
    """

    tools: Sequence[Tool] = ()
    agents: Mapping[str, Any] = field(default_factory=dict)
    specs: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    recording: Recorder | None = None
    _by_name: Mapping[str, Tool] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {tool.name: tool for tool in self.tools})

    async def call(self, call: ToolCall) -> ToolResult:
        """Run a call. If the tool raises, the result is a failed one.

        Raises:
            StorageError: The recording cannot be written.
        """
        tool = self._by_name.get(call.tool)
        spec = call.tool if tool is None else self.spec_of(tool)
        start = time.perf_counter()
        reply, message = None, None
        try:
            if tool is None:
                raise ToolError(f"there is no tool {call.tool!r}.")
            reply = await self._in_time(tool, call)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: a tool's exception is data
            ours = isinstance(error, LongVideoEnvError)
            message = str(error) if ours else f"{type(error).__name__}: {error}"
            message = cleanse(message or type(error).__name__)
        return ToolResult(call.tool, spec, reply, message, time.perf_counter() - start)

    def call_blocking(self, call: ToolCall) -> ToolResult:
        """`call` for synchronous drivers. Works inside a running event loop, as in a notebook.

        Tools that never suspend run in this thread, others on the background loop.
        """
        tool = self._by_name.get(call.tool)
        coroutine = self.call(call)
        # With a recording, this may wait for an equal call of another thread.
        if tool is None or (self._never_suspends(tool) and self.recording is None):
            return run_immediate(coroutine)
        return asyncio.run_coroutine_threadsafe(coroutine, background_loop()).result()

    def spec_of(self, tool: Tool) -> str:
        """The spec of the agent behind a tool, or the tool's own spec."""
        return tool.spec if tool.role is None else self.specs.get(tool.role, "none")

    def _never_suspends(self, tool: Tool) -> bool:
        if tool.role is not None:
            return bool(getattr(self.agents.get(tool.role), "immediate", False))
        return tool.in_place and not tool.is_async

    async def _in_time(self, tool: Tool, call: ToolCall) -> ToolReply:
        if self.timeout_s is None or self._never_suspends(tool):
            if self.recording is None:
                return await self._ask(tool, call, self._agent(tool))
            return await self._recorded(tool, call)
        work = asyncio.ensure_future(self._recorded(tool, call))
        try:
            # Unlike `wait_for`, this does not wait for a tool that ignores its cancellation.
            done, _ = await asyncio.wait({work}, timeout=self.timeout_s)
        finally:
            work.cancel()
        if not done:
            raise ToolError(f"no reply within the limit of {self.timeout_s:g} s.")
        return work.result()

    async def _recorded(self, tool: Tool, call: ToolCall) -> ToolReply:
        agent = self._agent(tool)
        # Replies chosen by gold are never recorded, because recordings get published.
        if self.recording is None or isinstance(agent, OracleGrounding):
            return await self._ask(tool, call, agent)
        from longvideo_env.tools.keys import call_key, seed_counts

        if isinstance(agent, UnsafeBoxes):
            agent.add_boxes(call)
        keyed = agent.agent if isinstance(agent, UnsafeBoxes) else agent

        async def ask() -> tuple[ToolReply, bool]:
            return await self._ask(tool, call, agent), seed_counts(keyed, call)

        key = call_key(keyed, self.spec_of(tool), call)
        reply = await self.recording.call(key, ask, seed=call.given_seed)
        check_reply(reply, call)  # replies from a recording are checked, too
        return reply

    async def _ask(self, tool: Tool, call: ToolCall, agent: Any) -> ToolReply:
        call.agent = agent
        if tool.is_async:
            given = await tool.function(call, **call.arguments)  # type: ignore[misc]
        elif tool.in_place:
            given = tool.function(call, **call.arguments)
        else:
            given = await asyncio.to_thread(tool.function, call, **call.arguments)
        reply = ToolReply(given) if isinstance(given, str) else given
        check_reply(reply, call)
        return reply

    def _agent(self, tool: Tool) -> Any:
        if tool.role is None:
            return None
        agent = self.agents.get(tool.role)
        if agent is None:
            raise ToolError(f"there is no {tool.role} agent.")
        return agent


def check_reply(reply: Any, call: ToolCall) -> None:
    """Check a reply.

    Raises:
        ToolError: The reply has neither text nor a clip or stretch of the video.
    """
    if not isinstance(reply, ToolReply):
        raise ToolError(f"{call.tool} returned {reply!r:.80}. It must return text or a ToolReply.")
    if not isinstance(reply.text, str) or (reply.view is None and not reply.text.strip()):
        raise ToolError(f"{call.tool} returned no text, but {reply.text!r:.80}.")
    if isinstance(reply.view, tuple):
        start, end = reply.view
        if not 0 <= start < end <= length_s(call.video):
            raise ToolError(
                f"{call.tool} named {start:g} s to {end:g} s, which is not a stretch of the video."
            )
    elif reply.view is not None and reply.view not in call.video:
        raise ToolError(
            f"{call.tool} named {reply.view!r:.80}, which is not a clip of video "
            f"{call.video.video_id!r}."
        )
