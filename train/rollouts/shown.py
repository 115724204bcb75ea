"""The pictures of a batch of episodes, in the form that TRL's trainer takes.

TRL 1.16 takes images from the dataset's rows or from the results of its own tools, but not from a
`rollout_func`. Its `images` reach only the reward functions. So the trainer adds them for the
log-probs and to the training batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from agents.generation.chat import ChatCodec
from agents.generation.seeing_codec import SeeingCodec
from longvideo_env.records.trajectory import Trajectory


def shown_with(codec: ChatCodec, rows: Sequence[Trajectory], input_ids: Tensor) -> dict[str, Any]:
    """Pixels, the number of images per row, and the image tokens. {} without frames.

    Args:
        codec: The policy's.
        rows: The episodes, in the order of the batch.
        input_ids: Prompts and completions. Shape: (batch, tokens).
    """
    if not isinstance(codec, SeeingCodec):
        return {}
    frames = [[frame for segment in row.segments for frame in segment.frames] for row in rows]
    if not any(frames):
        return {}
    pictures = codec.pictures([frame for shown in frames for frame in shown])
    found = {**pictures, **codec.token_types(input_ids)}
    found = {name: value.to(input_ids.device) for name, value in found.items()}
    return {**found, "num_images": [len(shown) for shown in frames]}
