"""Train with replies that end rank 0's episodes at turn 1 and let rank 1's play every turn.

    accelerate launch --config_file configs/accelerate/cpu_zero3.yaml tests/train/zero3_uneven.py \
        --config configs/grpo/tiny.yaml --ds3_gather_for_generation false

The model generates as usual. Only the returned ids are replaced. Each rank prints the turns of its
episodes. With `UNEVEN_CRASH=1`, rank 1 raises an error in its second round.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import train.rollouts.backends
import train.rollouts.rollout_func
from agents.generation.batches import Generated, generate_batch
from agents.generation.chat import ChatCodec
from train.grpo import main

RANK = int(os.environ["RANK"])
WORDS = ("<answer>a0</answer>", "no action")[RANK]
rounds = 0


def generate_uneven(
    model: Any, codec: ChatCodec, prompts: Sequence[Sequence[int]], *args: Any, **kwargs: Any
) -> list[Generated]:
    """Generate, and replace the result by this rank's words."""
    global rounds
    rounds += 1
    if RANK == 1 and rounds == 2 and "UNEVEN_CRASH" in os.environ:
        raise RuntimeError("rank 1 crashes")
    ids = codec.encode(WORDS)
    generated = generate_batch(model, codec, prompts, *args, **kwargs)
    return [replace(one, token_ids=ids, logprobs=(0.0,) * len(ids)) for one in generated]


def to_rows_and_print(
    trajectories: Sequence[Any], *args: Any, **kwargs: Any
) -> dict[str, list[Any]]:
    """Print the number of turns of each episode."""
    turns = [trajectory.n_turns for trajectory in trajectories]
    print(f"rank {RANK} turns {turns} rounds {rounds}", flush=True)  # noqa: T201
    return to_rows(trajectories, *args, **kwargs)


to_rows = train.rollouts.rollout_func.to_rows
train.rollouts.backends.generate_batch = generate_uneven
train.rollouts.rollout_func.to_rows = to_rows_and_print
main(sys.argv[1:])
