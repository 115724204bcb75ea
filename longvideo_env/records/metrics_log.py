"""Reads the metrics of a training run, `metrics.jsonl`, as arrays.

Imports neither torch nor TRL.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longvideo_env.errors import DataError, DatasetNotFoundError, MalformedFileError

METRICS = "metrics.jsonl"
ENVIRONMENT = "environment.json"
"""File beside it: the run's `EnvConfig` fields, and `rollouts`."""
ROLLOUTS = "rollouts"
RUN = "run"
"""Key in `environment.json` beside saved rollouts: path of the run's folder."""
STEP_FILES = "step-*.jsonl*"

Floats = NDArray[np.float64]


def rollout_files(folder: Path) -> list[Path]:
    """A run's saved rollouts: in the folder, in `rollouts` below it, or where the run put them."""
    places = [folder, folder / ROLLOUTS]
    if ROLLOUTS in (record := _read_object(folder / ENVIRONMENT)):
        places.append(folder / str(record[ROLLOUTS]))
    return next((found for place in places if (found := sorted(place.glob(STEP_FILES)))), [])


def run_of_rollouts(folder: Path) -> Path | None:
    """The run that a folder of rollouts belongs to. None if there are no rollouts in the folder.

    The rollouts name their run. Otherwise it is the parent folder, if that is a run.
    """
    if (folder / METRICS).is_file() or not any(folder.glob(STEP_FILES)):
        return None
    named = _read_object(folder / ENVIRONMENT).get(RUN)
    places = [folder / str(named)] if named else []
    places.append(folder.resolve().parent)
    signs = (METRICS, ENVIRONMENT)
    return next((p for p in places if any((p / sign).is_file() for sign in signs)), None)


def environment_of(path: Path) -> dict[str, Any]:
    """The environment of a run, given its folder, its rollouts or one of their files.

    Empty if there is no training run.
    """
    folder = path.parent if path.is_file() else path
    return _read_object(folder / ENVIRONMENT) or _read_object(folder.parent / ENVIRONMENT)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@dataclass(frozen=True, eq=False)  # compared by identity
class TrainingLog:
    """The logged metrics of one run.

    Attributes:
        name: Name in the legend.
        steps: The logged training steps, increasing. Shape: (records,)
        columns: The metrics by name, NaN if not logged. Shape of each: (records,)
    """

    name: str
    steps: NDArray[np.int64]
    columns: dict[str, Floats]

    def has(self, key: str) -> bool:
        """Whether a metric has any value."""
        return key in self.columns and bool(np.isfinite(self.columns[key]).any())

    def mean(self, key: str, window: int) -> Floats:
        """The centred mean over a window of steps. At the ends, over the part that exists.

        The window counts steps, not records, so runs with different `logging_steps` stay
        comparable.
        """
        values = self.columns[key]
        first = np.searchsorted(self.steps, self.steps - (window - 1) // 2, side="left")
        last = np.searchsorted(self.steps, self.steps + window // 2, side="right")
        sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
        counts = np.concatenate([[0], np.cumsum(np.isfinite(values))])
        n = counts[last] - counts[first]
        return np.where(n > 0, (sums[last] - sums[first]) / np.maximum(n, 1), np.nan)


def read_run(path: Path, name: str) -> TrainingLog:
    """Read the metrics of a run.

    Args:
        path: The run's folder, or the file.
        name: Name for the run.

    Raises:
        DataError: The file does not exist, cannot be read, or has no rewards.
    """
    file = path / METRICS if path.is_dir() else path
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise DatasetNotFoundError(
            f"expected a training run's metrics: {error.strerror}.",
            file,
            mend="pass the --output-dir of a training run.",
        ) from error
    records: list[dict[str, Any]] = []
    for row, line in enumerate(lines, 1):
        try:
            record = _parse(line)
        except ValueError as error:
            if row == len(lines):  # every complete line ends with a line break
                sys.stderr.write(f"{file}: the last line is incomplete and was left out.\n")
                break
            raise MalformedFileError(str(error), file, row, "remove this line.") from error
        evaluation = "eval/accuracy" in record
        if "reward" not in record and not evaluation:  # the final summary
            continue
        last = record["step"] + (1 if evaluation else 0)
        while records and records[-1]["step"] >= last:  # resumed from before it
            records.pop()
        if records and records[-1]["step"] == record["step"]:
            records[-1] |= record
        else:
            records.append(record)
    run = _to_run(name, records)
    if not run.has("reward"):
        raise DataError(
            "no record has a reward." if any(lines) else "the file is empty.",
            file,
            mend="let train/grpo.py log at least one step (--logging-steps).",
        )
    return run


def _parse(line: bytes) -> dict[str, Any]:
    """Parse a record. Empty for an empty line. Raises ValueError if it is not a record."""
    if not line.strip():
        return {}
    record = json.loads(line)
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        raise ValueError('expected a JSON object with "step", a whole number.')
    return record


def _to_run(name: str, records: Sequence[dict[str, Any]]) -> TrainingLog:
    keys = dict.fromkeys(key for record in records for key in record)
    columns = {
        key: np.array([_number(record.get(key)) for record in records], dtype=np.float64)
        for key in keys
    }
    return TrainingLog(
        name, np.array([record["step"] for record in records], dtype=np.int64), columns
    )


def _number(value: object) -> float:
    number = float(value) if isinstance(value, int | float) else math.nan
    return number if math.isfinite(number) else math.nan
