"""Code that all commands share: errors as one line on standard error, interruption, progress."""

from __future__ import annotations

import atexit
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from longvideo_env.commands.exit_codes import (
    EXIT_DONE,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
)
from longvideo_env.errors import InputError, LongVideoEnvError, SpecError
from longvideo_env.redaction import cleanse, keep_secrets_of_environment

GRACE_S = 2.5
"""Seconds in which an interrupted command may save its results."""


def run_command(
    name: str, work: Callable[[], int | None], *, resumes: bool = False, quiet: bool = False
) -> int:
    """Do a command's work. Print an error as one line on standard error.

    There is no traceback for bad input, a full disk, a folder without write permission, too many
    open files, or an interruption by Ctrl-C or SIGTERM. An interrupted command has `GRACE_S`
    seconds to save its results. Then it ends.

    Args:
        name: The command's name. Messages begin with `longvideo-env NAME: `.
        work: Returns the exit code, or None for 0.
        resumes: Whether the same command continues after an interruption.
        quiet: Print no error, because another process of the same command prints it.

    Returns:
        The exit code, one of `exit_codes`.
    """
    say_other_copy()
    keep_secrets_of_environment()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no text may fail to be shown
    hint = "; the same command resumes" if resumes else ""
    prefix = message_prefix(name)
    farewell = "" if quiet else f"{prefix}interrupted{hint}.\n"
    say = _say if not quiet else lambda text: None
    try:
        with stoppable(farewell):
            code = work() or EXIT_DONE
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        say(farewell)
        if _is_program():
            _leave()
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # as `| head` leaves it
        _drop_output()
        return EXIT_ERROR
    except OSError as error:
        _drop_output()
        say(f"{prefix}{fault_line(error)}\n")
        return EXIT_ERROR
    except RecursionError:
        say(f"{prefix}a file is nested too deeply. Fix: check the files that were given.\n")
        return EXIT_ERROR
    except LongVideoEnvError as error:
        say(f"{prefix}{error}\n")
        return exit_code_of(error)


def message_prefix(name: str) -> str:
    """How every message of a command begins."""
    return f"longvideo-env {name}: "


def exit_code_of(error: LongVideoEnvError) -> int:
    """`EXIT_USAGE` for a value without meaning, `EXIT_ERROR` for all other errors."""
    meaningless = isinstance(error, SpecError) and not isinstance(error, InputError)
    return EXIT_USAGE if meaningless else EXIT_ERROR


def fault_line(error: OSError) -> str:
    """The message for an error of the operating system: the reason, the path and a fix."""
    if isinstance(error, LongVideoEnvError):
        return cleanse(str(error))
    why, where = error.strerror or str(error) or type(error).__name__, error.filename
    fixes = {
        errno.ENOSPC: "make room on the disk",
        errno.EDQUOT: "make room within the quota",
        errno.EFBIG: "raise `ulimit -f`, the limit on the size of a file",
        errno.EMFILE: "raise `ulimit -n`, the limit on open files, or lower --concurrency",
        errno.EACCES: "give a path with permission to read and write",
        errno.EPERM: "give a path with permission to read and write",
        errno.EROFS: "give a path with permission to write",
        errno.ENOMEM: "free some memory",
    }
    place = f" ({where})" if where is not None else ""
    fix = fixes.get(error.errno or 0, "check the disk and the path")
    return cleanse(f"{why}{place}. Fix: {fix}. Finished results are kept.")


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # standard error may be full or closed as well
        sys.stderr.write(cleanse(text))
        sys.stderr.flush()


def _drop_output() -> None:
    """Redirect standard output to nowhere. Else Python would try to write it again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave() -> NoReturn:
    """End the process at once. Unloading torch would take seconds and stop the timer too."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(EXIT_INTERRUPTED)


def say_other_copy() -> None:
    """Print a note if a script of one checkout runs with the packages of another one."""
    started = getattr(sys.modules["__main__"], "__file__", None)
    ours = Path(__file__).resolve().parents[2]
    checkout = Path(started).resolve().parents[1] if started else ours
    if checkout != ours and (checkout / "longvideo_env").is_dir():
        sys.stderr.write(
            f"note: {started} runs with the packages in {ours}, not with its own checkout's. "
            "Fix: `make setup` or `pip install -e .` in the checkout.\n"
        )


@contextmanager
def stoppable(farewell: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a command soon, even while its threads are busy.

    The first signal raises `KeyboardInterrupt`, so that the command can save its results. After a
    second signal or `GRACE_S` seconds the process ends at once.

    Args:
        farewell: The message of a process that ends at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pid = os.getpid()
    timers: list[threading.Timer] = []

    def leave() -> None:
        with suppress(OSError):
            os.write(2, cleanse(farewell).encode())
        os._exit(EXIT_INTERRUPTED)

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != pid:  # a forked child
            raise KeyboardInterrupt
        if timers:
            leave()
        timer = threading.Timer(GRACE_S, leave)
        timer.daemon = True
        timer.start()
        timers.append(timer)
        raise KeyboardInterrupt

    signals = (signal.SIGTERM, signal.SIGINT)
    earlier = [signal.signal(number, stop) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, earlier, strict=True):
            signal.signal(number, handler)
        # A program now ends by itself. If a thread keeps it alive, the timer ends it.
        if timers and not _is_program():
            timers[0].cancel()


def _is_program() -> bool:
    """Whether this process is one of our commands, not a program that calls its `main`."""
    started = getattr(sys.modules["__main__"], "__file__", None)
    if started is None:  # a notebook, or `python -c`
        return False
    script, ours = Path(started).resolve(), Path(__file__).resolve().parents[2]
    rooms = (ours / name for name in ("longvideo_env", "agents", "train", "eval"))
    return script.name == "longvideo-env" or any(map(script.is_relative_to, rooms))


def progress_bar() -> Progress:
    """A progress bar on standard error. It is hidden if that is not a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
