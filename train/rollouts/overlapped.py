"""What the drivers that play a trainer's episodes share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from agents.generation.seeing_codec import SeeingCodec
from longvideo_env.game.policy import Codec, Context, reads_only
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.schema import FrameRef


@dataclass(frozen=True, slots=True)
class Request:
    """A reply to be generated.

    Attributes:
        token_ids: Everything that the model has seen and written so far.
        seed: Seeds the reply.
        frames: The frames among them, for a model that takes images.
    """

    token_ids: tuple[int, ...]
    seed: int
    frames: tuple[FrameRef, ...] = ()

    @classmethod
    def of(cls, context: Context) -> Request:
        """What a policy is asked for."""
        return cls(tuple(context.token_ids), context.seed, context.frames)


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

    def see(self, resolution: int) -> None:
        """Take the frames of messages as pictures.

        Raises:
            SpecError: The codec, and so the model, takes none.
        """
        if not isinstance(self.codec, SeeingCodec):
            raise reads_only("in training")
        self.codec.resolution = resolution

    async def aclose(self) -> None:
        """Nothing is held."""
