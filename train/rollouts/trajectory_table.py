"""Log a few whole trajectories to W&B, every n steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longvideo_env.records.trajectory import Trajectory

COLUMNS = ("step", "qid", "sample", "status", "correct", "grounded", "reward", "text")


class TrajectoryTable:
    """Shows the first trajectories of a batch in a W&B table.

    Args:
        every: Number of steps from one table to the next.
        count: Number of trajectories in a table.
    """

    def __init__(self, every: int, count: int = 4) -> None:
        self._every = every
        self._count = count

    def show(self, trajectories: Sequence[Trajectory], step: int) -> None:
        """Add a table, if one is due and a W&B run is open."""
        if (step - 1) % self._every:
            return
        import wandb

        run: Any = wandb.run
        if run is not None:
            rows = [_row(trajectory, step) for trajectory in trajectories[: self._count]]
            table = wandb.Table(columns=list(COLUMNS), data=rows)
            run.log({"trajectories": table}, commit=False)


def _row(trajectory: Trajectory, step: int) -> list[Any]:
    text = "".join(segment.text for segment in trajectory.segments)
    known = (trajectory.status, trajectory.correct, trajectory.grounded, trajectory.reward)
    return [step, str(trajectory.qid), trajectory.sample, *known, text]
