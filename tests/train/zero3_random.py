"""Train on `mini` with random replies in place of the model's, so that lengths are random.

    accelerate launch --config_file configs/accelerate/cpu_zero3.yaml tests/train/zero3_random.py \
        --config configs/grpo/mini.yaml --max_steps 20

Each rank prints the number of turns of its episodes in each step. The environment variable
`LENGTHS_SEED` (an integer) gives other lengths.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import train.rollouts.backends
import train.rollouts.rollout_func
from agents.generation.batches import Generated, generate_batch
from agents.generation.chat import ChatCodec
from train.grpo import main

RANK = int(os.environ["RANK"])
WORDS = (
    "<answer>a0</answer>",
    "no action",
    "<search>who holds what</search>",
    "<request_grounding/>",
)
rng = np.random.default_rng([int(os.environ.get("LENGTHS_SEED", "0")), RANK])
steps = 0


def generate_at_random(
    model: Any, codec: ChatCodec, prompts: Sequence[Sequence[int]], *args: Any, **kwargs: Any
) -> list[Generated]:
    """Generate, and replace the result by random words."""
    generated = generate_batch(model, codec, prompts, *args, **kwargs)
    ids = [codec.encode(WORDS[int(rng.integers(len(WORDS)))]) for _ in generated]
    return [
        replace(one, token_ids=words, logprobs=(0.0,) * len(words), finish="stop")
        for one, words in zip(generated, ids, strict=True)
    ]


def to_rows_and_print(trajectories: Sequence[Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Print the number of turns of each episode."""
    global steps
    steps += 1
    turns = " ".join(str(trajectory.n_turns) for trajectory in trajectories)
    print(f"rank {RANK} step {steps} turns {turns}.", flush=True)  # noqa: T201
    return to_rows(trajectories, *args, **kwargs)


to_rows = train.rollouts.rollout_func.to_rows
train.rollouts.backends.generate_batch = generate_at_random
train.rollouts.rollout_func.to_rows = to_rows_and_print
main(sys.argv[1:])
