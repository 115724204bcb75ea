"""What the drivers that play a trainer's episodes share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from longvideo_env.game.policy import Codec
from longvideo_env.records.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Request:
    """A reply to be generated.

    Attributes:
        token_ids: Everything that the model has seen and written so far.
        seed: Seeds the reply.
    """

    token_ids: tuple[int, ...]
    seed: int


Start: TypeAlias = Callable[[], Awaitable[Trajectory]]
"""Starts an episode."""


class BorrowedPolicy:
    """A policy that plays with a model which belongs to the trainer.

    Args:
        codec: Renders messages into token ids.
        concurrency: The most episodes in flight at once.

    Attributes:
        codec: The same.

    Raises:
        ValueError: `concurrency` is below 1.
    """

    def __init__(self, codec: Codec, concurrency: int = 64) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}.")
        self.codec = codec
        self._concurrency = concurrency

    async def aclose(self) -> None:
        """Nothing is held."""
