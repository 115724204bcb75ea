"""Play many episodes with few batches of generation. For models that live in the trainer.

Each episode is a coroutine on the background loop, where tools may wait for a network. Replies are
generated in batches, in the thread that called `play`. The current CUDA device, autocast and
collectives belong to that thread. It may itself run an event loop, as in a notebook.

A batch is generated:

- overlapped: as soon as no episode can continue without a reply or a tool, and no other batch is
  being generated. All waiting requests make the batch. An episode with a slow tool joins a later
  one.
- in lockstep: when every unfinished episode waits for a reply. One slow tool then holds up all
  episodes. If each forward is a collective, this lets all processes run the same number of rounds.

If tools never wait, both make the same batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeAlias

from longvideo_env.game.policy import Codec, Context, Reply
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.sync import background_loop
from train.rollouts.overlapped import BorrowedPolicy, Request, Start

_QUIET_TICKS = 3


Generate: TypeAlias = Callable[[Sequence[Request]], Sequence[Reply]]
"""Generates one reply per request. It gets no requests if only other processes have some left."""

Agree: TypeAlias = Callable[[bool], bool]
"""Whether any process has requests left. The argument says it of this process."""


@dataclass
class _Round:
    """The requests that make a batch."""

    requests: list[Request] = field(default_factory=list)
    replies: list[asyncio.Future[Reply]] = field(default_factory=list)


class LockstepPolicy(BorrowedPolicy):
    """A policy whose replies are generated in batches, in the thread that called `play`.

    Its `concurrency` is also the largest batch.
    """

    def __init__(self, codec: Codec, concurrency: int = 64) -> None:
        """As `BorrowedPolicy`."""
        super().__init__(codec, concurrency)
        self._session = _Session(overlap=False)

    async def act(self, context: Context, /) -> Reply:
        """Wait for the batch in which this reply is generated."""
        return await self._session.wait_for_reply(Request.of(context))

    def play(
        self,
        episodes: Sequence[Start],
        generate: Generate,
        agree: Agree = bool,
        *,
        overlap: bool = False,
    ) -> list[Trajectory]:
        """Play all episodes, in rounds.

        Args:
            episodes: Functions that start the episodes. The episodes must use this policy.
            generate: Called in this thread, once per round.
            agree: Called before each round and at the end. If generation is a collective, it gives
                all processes the same number of rounds. By default this process stops when it has
                no requests left.
            overlap: Whether to generate ready requests while other episodes wait for their tools.

        Returns:
            Their trajectories, in the order of `episodes`.
        """
        loop = background_loop()
        session = self._session = _Session(overlap)
        played = asyncio.run_coroutine_threadsafe(
            session.play_all(episodes, self._concurrency), loop
        )
        try:
            while (current := session.rounds.get()) is not None:
                agree(True)
                replies = generate(current.requests)
                loop.call_soon_threadsafe(session.hand_out, current, replies)
            # Raise an episode's exception here, before waiting for other processes.
            trajectories = played.result()
            while agree(False):
                generate(())
            return trajectories
        finally:
            played.cancel()


class _Session:
    """One call of `play`. Only the loop's thread uses it, except for `rounds`."""

    def __init__(self, overlap: bool) -> None:
        self.rounds: SimpleQueue[_Round | None] = SimpleQueue()
        self._overlap = overlap
        self._waiting = _Round()
        self._under_way = 0
        self._generating = False
        self._sender: asyncio.Task[None] | None = None

    async def wait_for_reply(self, request: Request) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.requests.append(request)
        self._waiting.replies.append(future)
        self._close_round()
        return await future

    def hand_out(self, finished: _Round, replies: Sequence[Reply]) -> None:
        self._generating = False
        for future, reply in zip(finished.replies, replies, strict=True):
            if not future.done():  # a cancelled episode's future is done
                future.set_result(reply)
        self._close_round()

    async def play_all(self, episodes: Sequence[Start], concurrency: int) -> list[Trajectory]:
        played: dict[int, Trajectory] = {}
        todo = iter(enumerate(episodes))
        self._under_way = min(concurrency, len(episodes))
        workers = [asyncio.ensure_future(self._work(todo, played)) for _ in range(self._under_way)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in (*workers, self._sender):
                if worker is not None:
                    worker.cancel()
            self.rounds.put(None)
        return [played[i] for i in range(len(episodes))]

    async def _work(self, todo: Iterator[tuple[int, Start]], played: dict[int, Trajectory]) -> None:
        try:
            for index, start in todo:
                played[index] = await start()
        finally:
            self._under_way -= 1
            self._close_round()

    def _close_round(self) -> None:
        """Send the round if it is ready."""
        if not self._waiting.requests or self._generating:
            return
        if len(self._waiting.requests) == self._under_way:
            self._send()
        elif self._overlap and (self._sender is None or self._sender.done()):
            self._sender = asyncio.ensure_future(self._send_when_quiet())

    async def _send_when_quiet(self) -> None:
        """Let all coroutines run until they wait, then send the round."""
        quiet = 0
        while quiet < _QUIET_TICKS:
            before = len(self._waiting.requests), self._under_way
            await asyncio.sleep(0)
            quiet = quiet + 1 if before == (len(self._waiting.requests), self._under_way) else 0
        if self._waiting.requests and not self._generating:
            self._send()

    def _send(self) -> None:
        self._generating = True
        self.rounds.put(self._waiting)
        self._waiting = _Round()
