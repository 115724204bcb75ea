"""Save every rollout: JSON Lines packed with zstd, one file for each step and process.

    RUN/step-000012-rank-003.jsonl.zst

Each line is a trajectory with an extra key, `rollout`: the step, the rank, the row of the batch,
and whether it was `used` in the update. A rollout that was not used has the reason in `unused`:

- `refilled`: its group taught nothing and was played again with another question.
- `failed`: a tool or the policy failed, so it is masked.

`read_trajectories` reads the files, and `python -m longvideo_env.commands.audit RUN` checks them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

from longvideo_env.records.trajectory import Trajectory


@dataclass(frozen=True)
class Rollout:
    """One row of a batch, as it was generated.

    Attributes:
        trajectory: The episode.
        row: Its row in this process's part of the batch.
        refilled: Whether another episode replaced it.
    """

    trajectory: Trajectory
    row: int
    refilled: bool = False

    @property
    def unused(self) -> str | None:
        """Why the update did not use it, or None if it did."""
        if self.refilled:
            return "refilled"
        return "failed" if self.trajectory.status == "failed" else None


class RolloutStore:
    """Writes the rollouts of a run.

    Args:
        folder: Where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[Path] = set()

    def add(self, rollouts: Sequence[Rollout], step: int, rank: int) -> None:
        """Add to a step's file. The first call overwrites the file of an interrupted run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:06d}-rank-{rank:03d}.jsonl.zst"
        lines = "".join(_line(rollout, step, rank) + "\n" for rollout in rollouts)
        with open(path, "ab" if path in self._written else "wb") as file:
            file.write(zstandard.ZstdCompressor().compress(lines.encode()))
        self._written.add(path)


def _line(rollout: Rollout, step: int, rank: int) -> str:
    note: dict[str, int | str] = {
        "step": step,
        "rank": rank,
        "row": rollout.row,
        "used": rollout.unused is None,
    }
    if rollout.unused is not None:
        note["unused"] = rollout.unused
    head = rollout.trajectory.to_json()
    return f'{head[:-1]},"rollout":{json.dumps(note, separators=(",", ":"))}}}'
