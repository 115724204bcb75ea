"""The pictures of a batch of episodes, as TRL's trainer takes them beside the tokens.

TRL 1.16 takes images from the dataset's rows or from the results of its own tools, and none from a
`rollout_func`: what that returns as `images` reaches the reward functions alone. So the trainer
adds them where log-probs are computed, and to the batch that it trains on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from agents.generation.chat import ChatCodec
from agents.generation.seeing_codec import SeeingCodec
from longvideo_env.records.trajectory import Trajectory


def shown_with(codec: ChatCodec, rows: Sequence[Trajectory], input_ids: Tensor) -> dict[str, Any]:
    """Pixels, how many images each row has, and which tokens stand for them; {} without frames.

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
