"""Collects what was not read: invalid rows, side files, and remarks.

Without `skip_invalid`, loading stops at the first invalid row. With `collect`, it stops at the end
of the file, and one message names all kinds of faults.
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from longvideo_env.errors import DataError, InvalidRowError

MEND_ROW = "correct the row, or load with skip_invalid=True to leave it out."

_HEAD = re.compile(r"^question .*?: (?=[a-z])", re.DOTALL)
_CAME = re.compile(r",? (?:got|it holds|but rows|rows \d|row \d).*", re.DOTALL)
_SHOWN_KINDS = 4


class Rejects:
    """Takes the errors of invalid rows.

    Args:
        skip_invalid: Keep the errors and continue.
        collect: Keep the errors until `finish`, which raises one error for all.
    """

    def __init__(self, skip_invalid: bool, *, collect: bool = False) -> None:
        """Start without errors."""
        self.skip_invalid = skip_invalid
        self.errors: list[InvalidRowError] = []
        self.left_out: list[InvalidRowError] = []
        self.unread: dict[str, str] = {}
        self.partly: dict[str, str] = {}
        self.notes: Counter[str] = Counter()
        self._collect = collect

    def add(self, error: InvalidRowError, cause: BaseException | None = None) -> None:
        """Raise the error, or keep it.

        The traceback is dropped, because it would keep the file open.
        """
        if not self.skip_invalid and not self._collect:
            raise error from cause
        self.errors.append(error.with_traceback(None))

    def leave_out(self, error: InvalidRowError) -> None:
        """Count a row that is broken in the published file and cannot be corrected."""
        self.left_out.append(error)

    def side_file(self, file: Path | str, error: DataError | str) -> None:
        """Note that a side file could not be read. Its video is played without it."""
        name = file.name if isinstance(file, Path) else file
        self.unread[name] = error if isinstance(error, str) else error.problem

    def finish(self) -> None:
        """Raise one error for all invalid rows, unless they are skipped.

        Raises:
            InvalidRowError: Has the type of the first error.
        """
        if self.skip_invalid or not self.errors:
            return
        first = min(self.errors, key=_row)
        if len(self.errors) == 1:
            raise first
        kinds = kinds_of(self.errors)
        own = kind_of(first)
        alike = kinds.pop(own) - 1
        more = [f"{alike:,} more rows like it"] if alike else []
        examples = {kind_of(error): error.row for error in reversed(self.errors)}
        more += [
            f"{n:,} with another fault ({kind}; row {examples[kind]})"
            for kind, n in kinds.most_common(_SHOWN_KINDS)
        ]
        if len(kinds) > _SHOWN_KINDS:
            more.append(f"{len(kinds) - _SHOWN_KINDS} more kinds of faults")
        raise type(first)(
            f"{first.problem} Also wrong: {'; '.join(more)}.", first.file, first.row, first.mend
        )


def _row(error: InvalidRowError) -> int:
    return error.row if isinstance(error.row, int) else 0


def kind_of(error: InvalidRowError) -> str:
    """The expected part of an error's message: the same for all rows with the same fault."""
    return _CAME.sub("", _HEAD.sub("", error.problem)).rstrip(" .,;")[:160]


def kinds_of(errors: Iterable[InvalidRowError]) -> Counter[str]:
    """Kind of fault -> number of rows."""
    return Counter(map(kind_of, errors))


@contextmanager
def no_collector() -> Iterator[None]:
    """Pause the garbage collector: rows hold no cycles, and collecting would take half the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
