"""One short line per logged step, instead of TRL's whole record.

    step 63/150: reward 0.81, right 0.78, turns 1.9, 310 tokens/s, 3 min 05 s left

The whole record goes to `metrics.jsonl`, and to the reporters of `--report-to`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train.rollouts.health import Health

SHOWN = (
    ("reward", "reward", "{:.2f}"),
    ("right", "episodes/accuracy", "{:.2f}"),
    ("turns", "episodes/turns", "{:.1f}"),
    ("failed", "episodes/failed", "{:.2f}"),
)
"""The figures shown: the word in the line, the name in the record, and the number format."""


def progress_line(step: int, of: int, logs: Mapping[str, Any], left_s: float | None) -> str:
    """Write a record in one line. Figures that it does not have are left out."""
    parts = [
        f"{word} {form.format(logs[name])}"
        for word, name, form in SHOWN
        if name in logs and (word != "failed" or logs[name])
    ]
    if "time/tokens_per_s" in logs:
        parts.append(f"{logs['time/tokens_per_s']:.0f} tokens/s")
    if left_s is not None:
        parts.append(f"{duration(left_s)} left")
    return f"step {step}/{of}: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """Format seconds: 45 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class ProgressLine(TrainerCallback):
    """Writes the line on standard output, in the main process.

    The time left is estimated from this process's steps so far. The first step is left out, because
    it loads and compiles.

    Args:
        health: Also checks each record.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._since: tuple[int, float] | None = None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Start the clock after the first step."""
        if self._since is None:
            self._since = (state.global_step, time.monotonic())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the line for a record of a step. Write other records in full."""
        if not state.is_world_process_zero or not logs:
            return
        if "reward" not in logs:
            known = {k: round(v, 4) if isinstance(v, float) else v for k, v in logs.items()}
            sys.stdout.write(f"step {state.global_step}/{state.max_steps}: {known}\n")
        else:
            left = self._left_s(state.global_step, state.max_steps)
            line = progress_line(state.global_step, state.max_steps, logs, left)
            sys.stdout.write(f"{line}\n")
            self._health.check_log(logs, state.global_step)
        sys.stdout.flush()

    def _left_s(self, step: int, of: int) -> float | None:
        if self._since is None or step <= self._since[0]:
            return None
        first, began = self._since
        return (time.monotonic() - began) / (step - first) * (of - step)
