"""What the library's commands share: bad input is one line on standard error, not a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from longvideo_env.errors import LongVideoEnvError

EXIT_DONE, EXIT_BAD_INPUT, EXIT_FINDINGS, EXIT_INTERRUPTED = 0, 2, 3, 130
TABLE_WIDTH = 120


def run_command(name: str, work: Callable[[], int | None]) -> int:
    """Do a command's work. Returns the exit code."""
    try:
        return work() or EXIT_DONE
    except LongVideoEnvError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted.\n")
        return EXIT_INTERRUPTED


def progress_bar() -> Progress:
    """A bar on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def output_console() -> Console:
    """Standard output. A pipe has no width of its own, and gets a wide one."""
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)
