"""Play many episodes whose replies are generated one by one. For vLLM.

The engine or the server makes the batches and takes requests at any time (continuous batching). So
while some episodes wait for tools, others generate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from longvideo_env.game.policy import Codec, Context, Reply
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.sync import background_loop
from train.rollouts.overlapped import BorrowedPolicy, Request, Start

GenerateOne: TypeAlias = Callable[[Request], Awaitable[Reply]]


class StreamingPolicy(BorrowedPolicy):
    """A policy whose replies are generated on request, with the function given to `play`."""

    def __init__(self, codec: Codec, concurrency: int = 64) -> None:
        """As `BorrowedPolicy`."""
        super().__init__(codec, concurrency)
        self._generate: GenerateOne | None = None

    async def act(self, context: Context, /) -> Reply:
        """Generate the reply."""
        assert self._generate is not None, "episodes are played by `play` alone"
        return await self._generate(Request.of(context))

    def play(self, episodes: Sequence[Start], generate: GenerateOne) -> list[Trajectory]:
        """Play all episodes on the background loop.

        Args:
            episodes: Functions that start the episodes. The episodes must use this policy.
            generate: A coroutine that generates one reply. Its exceptions are raised here.

        Returns:
            Their trajectories, in the order of `episodes`.
        """
        self._generate = generate
        played = asyncio.run_coroutine_threadsafe(self._play_all(episodes), background_loop())
        try:
            return played.result()
        finally:
            played.cancel()

    async def _play_all(self, episodes: Sequence[Start]) -> list[Trajectory]:
        played: dict[int, Trajectory] = {}
        todo = iter(enumerate(episodes))

        async def work() -> None:
            for index, start in todo:
                played[index] = await start()

        size = min(self._concurrency, len(episodes))
        workers = [asyncio.ensure_future(work()) for _ in range(size)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return [played[i] for i in range(len(episodes))]
