"""Small things that the readers share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from longvideo_env.datasets.footage import Footage
from longvideo_env.datasets.jsonfile import read_rows
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.errors import DatasetNotFoundError, InvalidRowError
from longvideo_env.media.subtitles import read_subtitles

_FILE_NAME = re.compile(r"[\w-][\w.-]{0,150}\Z", re.ASCII)


def split_file(folder: Path, files: dict[str, str], split: str) -> Path:
    """The file of a split.

    Raises:
        DatasetNotFoundError: There is no such split, or its file is not there.
    """
    if split not in files:
        raise DatasetNotFoundError(
            f"no split {split!r}; there: {', '.join(files)}.", folder, None, "pass one of these."
        )
    path = folder / files[split]
    if not path.is_file():
        raise DatasetNotFoundError(
            f"expected the questions in {files[split]}.", folder, None, "see docs/data.md."
        )
    return path


def object_rows(path: Path, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that are objects, with their places; others are rejected."""
    for number, row in read_rows(path, rejects):
        if isinstance(row, dict):
            yield number, row
        else:
            problem = f"expected an object with a question, got {row!r:.60}."
            rejects.add(InvalidRowError(problem, path, number, MEND_ROW))


def is_file_name(name: object) -> bool:
    """Whether a value from a file can name a file without leading out of its folder."""
    return isinstance(name, str) and _FILE_NAME.match(name) is not None


def srt_footage(folder: Path, lengths: Iterable[tuple[str, float | None]]) -> dict[str, Footage]:
    """Videos with the dialogue of `<folder>/<video>.srt`, where there is one."""
    footage = {}
    for name, length_s in lengths:
        path = folder / f"{name}.srt"
        has_text = is_file_name(name) and path.is_file() and path.stat().st_size
        footage[name] = Footage(read_subtitles(path).lines if has_text else (), (), length_s)
    return footage


def seconds(value: object) -> float | None:
    """A number of seconds, or None for what is none."""
    good = type(value) in (int, float) and 0 < value < 1e6  # type: ignore[operator]
    return float(value) if good else None  # type: ignore[arg-type]
