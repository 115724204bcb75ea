"""Classes that the drivers of a trainer's episodes share."""

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
    """A request for one reply.

    Attributes:
        token_ids: All tokens that the model has read and written so far.
        seed: Seeds the reply.
        frames: The frames shown so far, for a model that takes images.
    """

    token_ids: tuple[int, ...]
    seed: int
    frames: tuple[FrameRef, ...] = ()

    @classmethod
    def of(cls, context: Context) -> Request:
        """The request for a policy's context."""
        return cls(tuple(context.token_ids), context.seed, context.frames)


Start: TypeAlias = Callable[[], Awaitable[Trajectory]]
"""Starts an episode."""


class BorrowedPolicy:
    """A policy that plays with the trainer's model.

    Args:
        codec: Renders messages into token ids.
        concurrency: The most episodes in flight at once.

    Attributes:
        codec: The codec.

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
            SpecError: The model takes no pictures.
        """
        if not isinstance(self.codec, SeeingCodec):
            raise reads_only("in training")
        self.codec.resolution = resolution

    async def aclose(self) -> None:
        """Do nothing: the policy holds no resources."""
