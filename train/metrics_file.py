"""`metrics.jsonl`: every record that the trainer logs, written beside any other reporter."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class MetricsFile(TrainerCallback):
    """Appends each log record to a JSON Lines file, with its step.

    Evaluation figures are named `eval/accuracy` and so on, as in W&B and TensorBoard.

    A run that resumes from a checkpoint first drops the records logged after that checkpoint,
    because it repeats those steps. A run from the start empties the file.
    """

    def __init__(self, path: Path) -> None:
        """Keep the path."""
        self._path = path

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Keep the records up to the step that training resumes from, in the main process."""
        if not state.is_world_process_zero or not self._path.exists():
            return
        kept = [line for line in self._read() if 0 < _step(line) <= state.global_step]
        partial = self._path.with_name(self._path.name + ".partial")
        partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        os.replace(partial, self._path)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a record, in the main process."""
        if not state.is_world_process_zero:
            return
        record = {"step": state.global_step, **(logs or {})}
        finite = {
            re.sub("^eval_", "eval/", key): None
            if isinstance(value, float) and not math.isfinite(value)
            else value
            for key, value in record.items()
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")

    def _read(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines()


def _step(line: str) -> int:
    """The step of a record, or 0 for an incomplete line of a killed process."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 0
