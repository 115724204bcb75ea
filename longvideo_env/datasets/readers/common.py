"""Helper functions for the readers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from string import ascii_uppercase

from longvideo_env.datasets.footage import Footage
from longvideo_env.datasets.own.answer_keys import is_absent
from longvideo_env.datasets.own.sidefiles import SideFiles
from longvideo_env.datasets.own.table_files import Row, find_table
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import DatasetNotFoundError

_INSIDE = re.compile(r"(?:^|\n)\s*\(?([A-P])\s*[).:]\s*")
_MEDIA = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def split_file(folder: Path, files: Mapping[str, Sequence[str]], split: str) -> Path:
    """The file of a split. Without a split name, the file of the only split that exists.

    Args:
        folder: Of the benchmark.
        files: Split -> possible file names without suffix, in order of preference; `*` is a
            wildcard.
        split: The split, or an empty string.

    Raises:
        DatasetNotFoundError: There is no such split, or its file is missing.
    """
    if split and split not in files:
        raise DatasetNotFoundError(
            f"no split {split!r}; splits: {', '.join(files)}.", folder, None, "pass one of these."
        )
    wanted = [split] if split else list(files)
    there = {path: name for name in wanted if (path := find_table(folder, files[name]))}
    if len(there) > 1:
        raise DatasetNotFoundError(
            f"several splits: {', '.join(there.values())}.", folder, None, "pass one as split."
        )
    if not there:
        names = " or ".join(files[wanted[0]][:3])
        raise DatasetNotFoundError(
            f"expected the questions in {names} (.json, .csv, .parquet, ...).",
            folder,
            None,
            "see docs/data.md.",
        )
    return next(iter(there))


def first_of(row: Row, *columns: str) -> object:
    """The first non-empty value among some columns."""
    return next((row[name] for name in columns if not is_absent(row.get(name))), None)


def column_of(row: Row, *columns: str) -> str:
    """The first of some columns that a row has. If it has none, the first of them."""
    return next((name for name in columns if name in row), columns[0])


def facts_of(row: Row, *columns: str) -> tuple[tuple[str, str], ...]:
    """The groups that a row belongs to."""
    return tuple((name, str(row[name])) for name in columns if not is_absent(row.get(name)))


def film_name(value: object) -> str:
    """A video's name from its file name: without folders and film suffix."""
    text = str(value)
    if "/" not in text and "." not in text:
        return text
    name = PurePosixPath(text).name
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in _MEDIA else name


def split_question(text: object) -> tuple[object, list[str]]:
    """Split a question from the options in its text. Each option is a line with a letter."""
    if not isinstance(text, str):
        return text, []
    marks = list(_INSIDE.finditer(text))
    # Options are the last lettered lines in order, because a question may begin with a letter.
    starts = [i for i, mark in enumerate(marks) if mark[1] == "A"]
    for start in reversed(starts):
        found = marks[start:]
        if [mark[1] for mark in found] == list(ascii_uppercase[: len(found)]) and len(found) > 1:
            ends = [mark.start() for mark in found[1:]] + [len(text)]
            options = [text[m.end() : end].strip() for m, end in zip(found, ends, strict=True)]
            question = text[: found[0].start()].strip()
            return re.sub(r"\s*(?:Options|Choices):\s*\Z", "", question), options
    return text, []


def footage_of(
    folder: Path,
    names: Sequence[str],
    lengths: Iterable[tuple[str, float | None]],
    rejects: Rejects,
) -> dict[str, Footage]:
    """Videos with the dialogue of `NAME/<video>.srt`, if it exists.

    Args:
        folder: Of the benchmark.
        names: Names of the folder or archive with the subtitles.
        lengths: Videos with their lengths in seconds, where known.
        rejects: Takes notes about files that cannot be read.
    """
    files = SideFiles(folder, names, rejects)
    return {name: Footage(files.lines(name), (), length_s) for name, length_s in lengths}


def seconds(value: object) -> float | None:
    """The value as seconds. None if it is not a valid number."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    good = type(value) in (int, float) and 0 < value < 1e6  # type: ignore[operator]
    return float(value) if good else None  # type: ignore[arg-type]
