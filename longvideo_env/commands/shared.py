"""What all commands share: bad input is one line on standard error, not a traceback."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from longvideo_env.errors import LongVideoEnvError

EXIT_DONE, EXIT_BAD_INPUT, EXIT_FINDINGS, EXIT_INTERRUPTED = 0, 2, 3, 130
EXIT_FAILURES = EXIT_FINDINGS
EXIT_CHANGED = 1
TABLE_WIDTH = 120


def run_command(name: str, work: Callable[[], int | None], *, resumes: bool = False) -> int:
    """Do a command's work; bad input and interruption are one line on standard error.

    Args:
        name: The command, as its messages call it.
        work: Returns the exit code, or none for 0.
        resumes: Whether the same command goes on where it was interrupted.

    Returns:
        The exit code.
    """
    say_other_copy()
    try:
        with _stoppable():
            return work() or EXIT_DONE
    except LongVideoEnvError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        hint = "; the same command resumes" if resumes else ""
        sys.stderr.write(f"{name}: interrupted{hint}.\n")
        return EXIT_INTERRUPTED


def say_other_copy() -> None:
    """Say so where a script of one checkout runs with the packages of another copy."""
    started = getattr(sys.modules["__main__"], "__file__", None)
    ours = Path(__file__).resolve().parents[2]
    checkout = Path(started).resolve().parents[1] if started else ours
    if checkout != ours and (checkout / "longvideo_env").is_dir():
        sys.stderr.write(
            f"note: {started} runs with the packages in {ours}, not with those beside it. "
            "Fix: `make setup` or `pip install -e .` in the checkout.\n"
        )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it writes down what it has."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


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
