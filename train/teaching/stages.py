"""Stages of supervised fine-tuning: the teachers' episodes and the order of learning.

A model with random weights learns better in stages: first to look up a label, then the whole game
without mistakes, then also a teacher's mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TypeVar

import numpy as np

from agents.policies.build import build_policy
from longvideo_env.config import EnvConfig
from longvideo_env.datasets.forms import open_questions
from longvideo_env.drivers.rollout import RolloutEngine
from longvideo_env.errors import SpecError
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.seeding import derive_seed
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox

BUCKET_BATCHES = 32
"""Number of batches whose episodes are sorted by length, so that a batch has similar lengths."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Stage:
    """One teacher's episodes.

    Attributes:
        teacher: Spec of a policy.
        dataset: Spec of the dataset that it plays.
        episodes: Number of episodes that it plays.
        epochs: Number of epochs over these episodes.
        rate: The stage's share of the scheduled learning rate.
    """

    teacher: str
    dataset: str
    episodes: int
    epochs: int
    rate: float = 1.0


def build_stages(
    teachers: Sequence[str],
    datasets: Sequence[str],
    episodes: Sequence[int],
    epochs: Sequence[int],
    rates: Sequence[float] = (1.0,),
) -> list[Stage]:
    """Make stages from options. Each option has one value for all stages, or one per stage.

    Raises:
        SpecError: An option has another number of values, a count is below 1, or a rate is not
            above 0.
    """
    n = len(teachers)
    columns = (
        _one_each("teacher_dataset", datasets, n),
        _one_each("teacher_episodes", episodes, n),
        _one_each("teacher_epochs", epochs, n),
        _one_each("teacher_rate", rates, n),
    )
    for name, counts in (("teacher_episodes", columns[1]), ("teacher_epochs", columns[2])):
        if min(counts) < 1:
            raise SpecError(f"{name} must be at least 1, got {min(counts)}.")
    if not min(columns[3]) > 0:
        raise SpecError(f"teacher_rate must be above 0, got {min(columns[3])}.")
    return [Stage(*values) for values in zip(teachers, *columns, strict=True)]


def play(stage: Stage, env: EnvConfig, seed: int) -> list[Trajectory]:
    """Let the teacher play the split's questions in order, repeated as often as needed."""
    return run_blocking(_play(stage, replace(env, dataset=stage.dataset), seed))


def order_by_length(
    lengths: Sequence[int], epochs: int, batch: int, rng: np.random.Generator
) -> list[int]:
    """A random order of batches whose episodes have similar lengths.

    Args:
        lengths: Lengths of the episodes.
        epochs: How often each episode occurs.
        batch: Episodes per batch. Each epoch drops a random rest that does not fill a batch.
        rng: Draws the order.

    Returns:
        Indices of episodes, for a whole number of batches.

    Raises:
        SpecError: There are fewer episodes than one batch needs.
    """
    if len(lengths) < batch:
        raise SpecError(f"a batch needs {batch} episodes, but a stage has {len(lengths)}.")
    order: list[int] = []
    for _ in range(epochs):
        shuffled = rng.permutation(len(lengths))[: len(lengths) // batch * batch].tolist()
        for start in range(0, len(shuffled), batch * BUCKET_BATCHES):
            bucket = sorted(
                shuffled[start : start + batch * BUCKET_BATCHES], key=lengths.__getitem__
            )
            batches = [bucket[i : i + batch] for i in range(0, len(bucket), batch)]
            for i in rng.permutation(len(batches)):
                order += batches[i]
    return order


async def _play(stage: Stage, env: EnvConfig, seed: int) -> list[Trajectory]:
    dataset = open_questions(env)
    engine = RolloutEngine(
        dataset=dataset,
        config=env,
        toolbox=build_toolbox(env, dataset),
        policy=build_policy(stage.teacher),
        policy_spec=stage.teacher,
        seed=derive_seed(seed, stage.teacher),
    )
    tasks = enumerate(islice(cycle(dataset.tasks), stage.episodes))
    jobs = ((task, i // len(dataset)) for i, task in tasks)
    return sorted(
        [trajectory async for trajectory in engine.play_all(jobs)],
        key=lambda t: (t.sample, str(t.qid)),
    )


def _one_each(name: str, values: Sequence[_T], n: int) -> list[_T]:
    if len(values) not in (1, n):
        raise SpecError(
            f"{name}: expected one value, or one for each of {n} teachers, got {len(values)}."
        )
    return list(values) * (n if len(values) == 1 else 1)
