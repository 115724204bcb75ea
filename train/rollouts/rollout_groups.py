"""Assign questions to the rows of a batch, and find the groups of rows that teach nothing.

A group whose rewards are all equal teaches nothing: its advantages are 0. Such groups are counted
over all processes. On demand they get other questions, the same on every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from longvideo_env.datasets import Dataset
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.seeding import derive_seed

EQUAL = 1e-6
"""Rewards that differ by less are equal."""


class Groups:
    """The groups of one batch. A group may span several processes.

    Args:
        prompts: This process's rows, as question ids.
        trainer: The `GRPOTrainer`.

    Attributes:
        step: The trainer's step.
        run_seed: The trainer's seed.
        rank: This process's number.
        qids: The question ids of this process's rows. Refilled groups have their new question.
        counts: The logged counts over all processes: `zero_variance` (groups whose rewards were all
            equal when first played), `refilled` (groups played again) and `without_signal` (groups
            whose rewards are all equal in the end).
    """

    def __init__(self, prompts: Sequence[str], trainer: Any) -> None:
        training = trainer.model.training
        self.step: int = trainer.state.global_step
        self.run_seed: int = trainer.args.seed
        self.rank: int = trainer.accelerator.process_index
        self.qids = list(prompts)
        self.counts = {"zero_variance": 0, "refilled": 0, "without_signal": 0}
        self._size: int = trainer.num_generations if training else trainer.num_generations_eval
        self._start: int = self.rank * len(prompts)
        self._flat: list[int] | None = None
        everywhere = gather_object(list(prompts))
        self._rows = len(everywhere)
        self._seen = set(everywhere)

    @property
    def figures(self) -> dict[str, float]:
        """The logged figures by name: `counts`, and the share of groups with equal rewards."""
        total = max(1, self._rows // self._size)
        share = {"zero_variance_share": self.counts["zero_variance"] / total}
        return {f"groups/{name}": value for name, value in {**self.counts, **share}.items()}

    def of(self, row: int) -> int:
        """The group of one of this process's rows."""
        return (self._start + row) // self._size

    def sample_of(self, row: int) -> int:
        """A row's position in its group."""
        return (self._start + row) % self._size

    def score(self, trajectories: Sequence[Trajectory]) -> None:
        """Find the groups whose rewards are all equal. A collective: all processes must call it."""
        rewards: list[float | None] = gather_object([t.reward for t in trajectories])
        flat = [
            start // self._size
            for start in range(0, len(rewards), self._size)
            if without_signal(rewards[start : start + self._size])
        ]
        if self._flat is None:
            self.counts["zero_variance"] = len(flat)
        self._flat = flat
        self.counts["without_signal"] = len(flat)

    def refill(self, attempt: int, dataset: Dataset) -> set[int]:
        """Give groups without signal other questions, which this batch has not seen.

        All processes draw the same questions.

        Returns:
            The groups to play again. Empty if there are no such groups or no questions left.
        """
        fresh = [qid for task in dataset if (qid := str(task.qid)) not in self._seen]
        rng = np.random.default_rng(derive_seed(self.run_seed, self.step, "refill", attempt))
        drawn = [fresh[int(i)] for i in rng.permutation(len(fresh))]
        again = dict(zip(self._flat or (), drawn, strict=False))
        self._seen.update(again.values())
        self.qids = [again.get(self.of(row), qid) for row, qid in enumerate(self.qids)]
        self.counts["refilled"] += len(again)
        return set(again)


def without_signal(rewards: Sequence[float | None]) -> bool:
    """Whether a group's known rewards are all equal, so that its advantages are 0."""
    known = [reward for reward in rewards if reward is not None]
    return len(known) < 2 or max(known) - min(known) < EQUAL
