"""A progress bar of episodes, with accuracy and failures so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from longvideo_env.records.trajectory import Trajectory

GLANCE_S = 0.2


class EpisodeProgress:
    """One bar per policy: episodes done, accuracy so far, failures.

    Args:
        console: The console. The bar is drawn only on a terminal.

    Attributes:
        notes: Lines for the end of the command's output.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TextColumn("{task.fields[place]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.notes: list[str] = []
        self._bar: TaskID | None = None
        self._said_s = 0.0
        self._right = self._scored = self._failed = 0

    def __enter__(self) -> EpisodeProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def warn(self, *lines: str) -> None:
        """Print warnings above the bars."""
        for line in lines:
            self._progress.console.print(
                f"warning: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )

    def note(self, line: str) -> None:
        """Keep a line for the end of the output. See `notes`."""
        self.notes.append(line)

    def start(self, policy: str, total: int) -> None:
        """Start a policy's bar."""
        self._right = self._scored = self._failed = 0
        self._bar = self._progress.add_task(policy, total=total, state="", place="")

    def place(self, say: Callable[[], str]) -> None:
        """Show beside the bar which nodes play, at most every `GLANCE_S` seconds."""
        assert self._bar is not None, "start() comes first"
        now = time.monotonic()
        if now - self._said_s >= GLANCE_S:
            self._said_s = now
            self._progress.update(self._bar, place=say())

    def advance(self, trajectory: Trajectory) -> Trajectory:
        """Count a finished episode, and return it."""
        assert self._bar is not None, "start() comes first"
        self._failed += trajectory.status == "failed"
        if trajectory.correct is not None:
            self._scored += 1
            self._right += trajectory.correct
        state = f"acc {self._right / self._scored:.3f}" if self._scored else ""
        if self._failed:
            state += f" · {self._failed} failed"
        self._progress.update(self._bar, advance=1, state=state)
        return trajectory
