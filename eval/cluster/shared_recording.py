"""One recording for all workers of a cluster, so that equal calls are made once.

An actor on the driver's node holds the SQLite file. A worker asks the actor first. The actor
answers from the file. If an equal call of any worker is unfinished, it answers when that call has
its reply. Otherwise the worker calls the agent and sends the reply to the actor. The calls of a
lost worker are made by another worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, TypeAlias

from agents.cluster.joining import here
from longvideo_env.errors import LongVideoEnvError, ToolError
from longvideo_env.tools.recording import Asked, Recording, RecordingStats
from longvideo_env.tools.tool import ToolReply

Ticket: TypeAlias = tuple[str, int]
"""A worker, and the number of its call."""


class RecordingServer:
    """Serves one recording. It is the body of the actor.

    Args:
        path: The SQLite file.
        mode: The mode of the `Recording`.
    """

    def __init__(self, path: str, mode: str) -> None:
        self._recording = Recording(path, mode)
        self._calls: dict[Ticket, asyncio.Task[ToolReply]] = {}
        self._asking: dict[Ticket, asyncio.Future[Asked]] = {}

    async def begin(
        self, ticket: Ticket, key: Mapping[str, Any], seed: int | None, of_policy: bool
    ) -> ToolReply | Exception | None:
        """The reply to a call, or an error. None: the caller must call the agent and `hand_in`."""
        asked = asyncio.get_running_loop().create_future()

        async def ask() -> Asked:
            answer: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()
            self._asking[ticket] = answer
            asked.set_result(None)
            return await answer

        recording = self._recording
        stats = recording.policy_stats if of_policy else recording.stats
        call = asyncio.ensure_future(recording.call(key, ask, seed=seed, stats=stats))
        self._calls[ticket] = call
        await asyncio.wait({call, asked}, return_when=asyncio.FIRST_COMPLETED)
        return await self._outcome(ticket) if call.done() else None

    async def hand_in(self, ticket: Ticket, answer: Asked | Exception) -> ToolReply | Exception:
        """Take the reply, or the error, after `begin` has returned None."""
        if ticket not in self._asking:
            return ToolError("the recording does not wait for this reply any more.")
        asking = self._asking.pop(ticket)
        if isinstance(answer, Exception):
            asking.set_exception(answer)
        else:
            asking.set_result(answer)
        return await self._outcome(ticket)

    async def abandon(self, ticket: Ticket) -> None:
        """Drop a call whose caller no longer needs the reply."""
        self._asking.pop(ticket, None)
        if call := self._calls.pop(ticket, None):
            call.cancel()

    async def forget(self, worker: str) -> None:
        """Drop the calls of a lost worker, so that another worker makes them."""
        for ticket in [ticket for ticket in self._calls if ticket[0] == worker]:
            await self.abandon(ticket)

    async def stats(self) -> tuple[RecordingStats, RecordingStats]:
        """The statistics of calls so far: of tools, and of the policy."""
        return self._recording.stats, self._recording.policy_stats

    async def _outcome(self, ticket: Ticket) -> ToolReply | Exception:
        call = self._calls.get(ticket)
        try:
            if call is None or call.cancelled():
                return ToolError("this call was given up.")
            return await call
        except Exception as error:  # noqa: BLE001 - the caller gets the error
            return error
        finally:
            self._calls.pop(ticket, None)


class RemoteRecording:
    """A worker's view of the actor's recording. See `longvideo_env.tools.toolbox`.

    Args:
        server: The actor.
        worker: The name of this worker.
        mode: The mode of the recording.
    """

    def __init__(self, server: Any, worker: str, mode: str) -> None:
        self.mode = mode
        # The server counts. These objects only distinguish tools from the policy.
        self.stats, self.policy_stats = RecordingStats(), RecordingStats()
        self._server, self._worker, self._numbers = server, worker, count()

    async def call(
        self,
        key: Mapping[str, Any],
        ask: Callable[[], Awaitable[Asked]],
        *,
        seed: int | None = None,
        stats: RecordingStats | None = None,
    ) -> ToolReply:
        """As `Recording.call`."""
        ticket = (self._worker, next(self._numbers))
        try:
            of_policy = stats is self.policy_stats
            reply = await self._server.begin.remote(ticket, dict(key), seed, of_policy)
            if reply is None:
                reply = await self._server.hand_in.remote(ticket, await _answer(ask))
        except asyncio.CancelledError:
            self._server.abandon.remote(ticket)
            raise
        if isinstance(reply, Exception):
            raise reply
        return reply  # type: ignore[no-any-return]


async def _answer(ask: Callable[[], Awaitable[Asked]]) -> Asked | Exception:
    try:
        return await ask()
    except Exception as error:  # noqa: BLE001 - all who wait for the same call get it
        # An error of a library may not be picklable.
        ours = isinstance(error, LongVideoEnvError)
        return error if ours else ToolError(f"{type(error).__name__}: {error}")


def serve_recording(ray: Any, path: str, mode: str) -> Any:
    """The actor, on the node of this process, where the file is."""
    options = {**here(ray), "max_concurrency": 100_000}
    return ray.remote(RecordingServer).options(**options).remote(path, mode)
