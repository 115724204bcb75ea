"""The one place where tools are called. A failure is data, never an exception and never a reward.

Recording, deadline, single flight and the checks of a reply serve every tool in the same way.
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
from longvideo_env.tools.tool import Tool, ToolCall, ToolReply, ToolResult
from longvideo_env.tools.with_gold import OracleGrounding, UnsafeBoxes

if TYPE_CHECKING:
    from longvideo_env.tools.recording import Asked, RecordingStats


class GroundingAgent(Protocol):
    """Names the clip that matters; stands behind the tool `ground`.

    Attributes:
        immediate: True if the coroutine never suspends, so that it can be run without an event
            loop.
    """

    immediate: bool

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return the id of a clip of the request's video, as the reply's text.

        Raises:
            ToolError: The work could not be done.
        """
        ...


class VisionAgent(Protocol):
    """Describes what the frames of some clips show. `immediate` as in `GroundingAgent`."""

    immediate: bool

    async def look(self, request: ToolCall, /) -> ToolReply:
        """Return a description that answers the request's query.

        Raises:
            ToolError: The work could not be done.
        """
        ...


class Recorder(Protocol):
    """Answers equal calls once: a `Recording`, or one that another process holds.

    Attributes:
        mode: `record`, `replay` or `reuse`.
        stats: What became of the calls of tools.
        policy_stats: What became of the calls of a policy.
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
    """The tools of one environment, with the agents behind them.

    Attributes:
        tools: The tools, in the order in which they are offered.
        agents: By role, such as `grounding`: the agent, or nothing where a tool has none.
        specs: By role, the agent's spec, for the record.
        timeout_s: The most seconds that a call may take; a slower one is a failed result. None
            waits for as long as it takes. What never suspends is not interrupted.
        recording: Where calls are recorded and replayed, or None.
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
        """Run a call. Never raises for what a tool does wrong: that is a failed result.

        Raises:
            StorageError: The recording cannot be written. The run could not be repeated.
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
        except Exception as error:  # noqa: BLE001 - the boundary: whatever a tool raises is data
            ours = isinstance(error, LongVideoEnvError)
            message = str(error) if ours else f"{type(error).__name__}: {error}"
            message = cleanse(message or type(error).__name__)
        return ToolResult(call.tool, spec, reply, message, time.perf_counter() - start)

    def call_blocking(self, call: ToolCall) -> ToolResult:
        """`call` for synchronous drivers; works inside a running event loop, as in a notebook.

        Tools that never suspend run right here; others on the background loop.
        """
        tool = self._by_name.get(call.tool)
        coroutine = self.call(call)
        # With a recording, an equal call of another thread may have to be waited for.
        if tool is None or (self._never_suspends(tool) and self.recording is None):
            return run_immediate(coroutine)
        return asyncio.run_coroutine_threadsafe(coroutine, background_loop()).result()

    def spec_of(self, tool: Tool) -> str:
        """Who does a tool's work: the spec of the agent behind it, or where its code lies."""
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
            # Unlike `wait_for`, this does not wait for a tool that will not be cancelled.
            done, _ = await asyncio.wait({work}, timeout=self.timeout_s)
        finally:
            work.cancel()
        if not done:
            raise ToolError(f"no reply within {self.timeout_s:g} s, which is the limit.")
        return work.result()

    async def _recorded(self, tool: Tool, call: ToolCall) -> ToolReply:
        agent = self._agent(tool)
        # What gold has chosen is never recorded: a recording is made to be published.
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
        check_reply(reply, call)  # a recording is input like any other
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
    """Refuse what is no reply.

    Raises:
        ToolError: It is neither text nor a clip of the video.
    """
    if not isinstance(reply, ToolReply):
        raise ToolError(f"{call.tool} returned {reply!r:.80}. It must return text or a ToolReply.")
    if not isinstance(reply.text, str) or (reply.view is None and not reply.text.strip()):
        raise ToolError(f"{call.tool} returned {reply.text!r:.80}, which says nothing.")
    if reply.view is not None and reply.view not in call.video:
        raise ToolError(
            f"{call.tool} named {reply.view!r:.80}, which is not a clip of video "
            f"{call.video.video_id!r}."
        )
