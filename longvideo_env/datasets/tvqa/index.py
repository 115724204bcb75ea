"""An on-disk index of a large split: opens in milliseconds, memory-mapped, shared by processes.

It holds the questions' rows and the clips' texts, and where each starts. All rows are checked when
the index is made. A `Task` or `Video` is built on demand. The mapped pages are in the system's page
cache, so several processes share one copy of the text.

| file | holds |
|---|---|
| `rows.bin`, `rows.npy` | a copy of the questions' file; where each row starts and ends in it |
| `subtitles.*`, `timed.*`, `captions.*` | the clips' texts, and where each starts and ends |
| `gold.npy` | number of each task's gold clip, or -1 |
| `qids.json` | the questions' ids |
| `meta.json` | videos with their clips, rows left out, the fewest options of a question |
"""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from longvideo_env.datasets.tvqa.rows import RowPlace, read_task
from longvideo_env.records.files import write_text
from longvideo_env.schema import Qid, Task

VERSION = 2
"""Raised whenever the index format or the reading of rows changes."""


class Pieces:
    """Pieces of text in a memory-mapped file. Can be pickled: the file is opened again.

    Args:
        stem: Path of the two files without their suffixes.
    """

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._bounds = np.load(stem.with_suffix(".npy"), mmap_mode="r")
        with open(stem.with_suffix(".bin"), "rb") as file:
            empty = file.seek(0, 2) == 0
            self._data = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, number: int) -> bytes:
        start, end = self._bounds[number].tolist()
        return self._data[start:end]

    def __reduce__(self) -> tuple[type[Pieces], tuple[Path]]:
        return type(self), (self._stem,)


def write_pieces(stem: Path, texts: Iterable[str]) -> None:
    """Write texts in the format that `Pieces` reads."""
    ends = array("Q", [0])
    with open(stem.with_suffix(".bin"), "wb", buffering=1 << 20) as file:
        for text in texts:
            ends.append(ends[-1] + file.write(text.encode()))
    bounds = np.frombuffer(ends, dtype=np.uint64)
    np.save(stem.with_suffix(".npy"), np.stack([bounds[:-1], bounds[1:]], axis=1))


class LazyTasks(Sequence[Task]):
    """The tasks of an index. Each is built from its row on demand.

    Args:
        folder: The index.
        file: The questions' file, for error messages.
        chosen: Positions of the rows; by default all.
    """

    def __init__(self, folder: Path, file: Path, chosen: range | None = None) -> None:
        self._folder = folder
        self._file = file
        self._rows = Pieces(folder / "rows")
        self._chosen = range(len(self._rows)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> LazyTasks: ...
    def __getitem__(self, index: int | slice) -> Task | LazyTasks:
        if isinstance(index, slice):
            return LazyTasks(self._folder, self._file, self._chosen[index])
        position = self._chosen[index]
        return read_task(json.loads(self._rows[position]), RowPlace(self._file, position + 1))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LazyTasks):
            return NotImplemented
        return (self._folder, self._chosen) == (other._folder, other._chosen)

    def __hash__(self) -> int:
        return hash((self._folder, self._chosen))

    def __reduce__(self) -> tuple[type[LazyTasks], tuple[Path, Path, range]]:
        return type(self), (self._folder, self._file, self._chosen)

    @cached_property
    def qids(self) -> Sequence[Qid]:
        """The ids of all questions, without building tasks."""
        qids: list[Qid] = json.loads((self._folder / "qids.json").read_text(encoding="utf-8"))
        return [qids[i] for i in self._chosen]

    @cached_property
    def fewest_options(self) -> int:
        """Smallest number of options of any question of the index."""
        return int(read_meta(self._folder)["fewest_options"])

    def kept(self, name: str, make: Callable[[LazyTasks], Any]) -> Any:
        """The plain value that `make` computes from all rows.

        Computed once and cached beside the index.
        """
        path = self._folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            value = make(LazyTasks(self._folder, self._file))
        with suppress(OSError):  # computed each time if the cache cannot be written
            write_text(path, json.dumps(value))
        return value

    def gold_clips(self) -> dict[str, str]:
        """`str(qid)` -> gold clip id, where known, without building tasks."""
        clips = [clip for ids in read_meta(self._folder)["videos"].values() for clip in ids]
        gold = np.load(self._folder / "gold.npy")
        pairs = zip(self.qids, (int(gold[i]) for i in self._chosen), strict=True)
        return {str(qid): clips[number] for qid, number in pairs if number >= 0}


class ClipTexts(Mapping[str, str]):
    """Texts by clip id, from an index.

    Args:
        stem: Path of the index's files without their suffixes.
        numbers: Clip id -> number of its text.
    """

    def __init__(self, stem: Path, numbers: Mapping[str, int]) -> None:
        self._pieces = Pieces(stem)
        self._numbers = numbers

    def __getitem__(self, clip_id: str) -> str:
        return self._pieces[self._numbers[clip_id]].decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class ClipEntries(Mapping[str, list[dict[str, Any]]]):
    """Entries with text and times by clip id, from an index that stores them as JSON.

    Args:
        texts: The JSON by clip id; an empty string means no entry.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def __getitem__(self, clip_id: str) -> list[dict[str, Any]]:
        text = self._texts[clip_id]
        return json.loads(text) if text else []

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def read_meta(folder: Path) -> dict[str, Any]:
    """The contents of `meta.json`."""
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return meta
