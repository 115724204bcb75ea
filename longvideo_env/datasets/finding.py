"""Finds the reader of a dataset: a benchmark's by name, or your own function.

    videomme:DIR                 # a file of `datasets/readers/`; of other packages, an entry point
                                 # of the group `longvideo_env.datasets`
    my_reader.py:read@DIR        # a function of a file; `module:function@DIR` of a module

Your function takes the folder, or the folder and the split. It returns rows (see `datasets.own`), a
`Benchmark` or a `Dataset`. The readers in this package take `(folder, split, rejects)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, cast

from longvideo_env.datasets import readers
from longvideo_env.datasets.assembling import assemble
from longvideo_env.datasets.dataset import Dataset
from longvideo_env.datasets.fetching.hub import PREFIX, hub_folder
from longvideo_env.datasets.footage import Benchmark
from longvideo_env.datasets.own.in_memory import rows_of
from longvideo_env.datasets.own.questions_table import read_rows
from longvideo_env.datasets.rejects import Rejects, no_collector
from longvideo_env.errors import DatasetNotFoundError, LongVideoEnvError, SpecError
from longvideo_env.specs import entry_point_names, is_attribute, load_attribute

TABLES = (
    "*.json",
    "*.jsonl",
    "*.csv",
    "*.tsv",
    "*.parquet",
    "*.srt",
    "subtitle*.zip",
    "subtitle*.tar",
)


def named_reader(dataset: str) -> tuple[str, str] | None:
    """Name and folder of `NAME:FOLDER` or `MODULE:FUNCTION@FOLDER`. None for other datasets."""
    name, colon, folder = dataset.partition(":")
    if colon and (name in _own_readers() or name in entry_point_names("datasets")):
        return name, folder
    function, at, folder = dataset.rpartition("@")
    return (function, folder) if at and is_attribute(function) else None


def load_benchmark(
    name: str, folder: str, split: str, frames_root: str | Path | None, skip_invalid: bool
) -> Dataset:
    """Read a benchmark. Another call returns the same object until its files change.

    Raises:
        DataError: As `load_dataset`.
        SpecError: The function does not exist, or it failed.
    """
    if folder.startswith(PREFIX):
        root = hub_folder(folder, TABLES)
    else:
        root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise DatasetNotFoundError("no such folder.", root, None, f"pass {name}:FOLDER.")
    frames = root / "frames" if frames_root is None else Path(frames_root).expanduser().resolve()
    known = frames if frames.is_dir() else None
    if is_attribute(name):
        return _call(name, root, split, known, skip_invalid)
    return _load(name, root, split, known, skip_invalid, _state(root))


def _state(root: Path) -> tuple[tuple[str, int, int], ...]:
    """Modification time and size of the files in a folder, two levels deep."""
    paths = sorted([*root.glob("*"), *root.glob("*/*")])
    stats = [(str(path), path.stat()) for path in paths]
    return tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)


@lru_cache(maxsize=8)
def _load(
    name: str, root: Path, split: str, frames: Path | None, skip_invalid: bool, _state: object
) -> Dataset:
    rejects = Rejects(skip_invalid, collect=True)
    with no_collector():
        benchmark = _reader(name)(root, split, rejects)
        return assemble(name, split or "all", benchmark, rejects, root, frames)


def reader_names() -> list[str]:
    """The benchmarks that have a reader."""
    return sorted({*_own_readers(), *entry_point_names("datasets")})


@cache
def _own_readers() -> frozenset[str]:
    return frozenset(m.name for m in iter_modules(readers.__path__) if m.name != "common")


def _reader(name: str) -> Callable[[Path, str, Rejects], Benchmark]:
    if name in _own_readers():
        read: Callable[[Path, str, Rejects], Benchmark] = load_attribute(
            f"{readers.__name__}.{name}:read"
        )
        return read
    found = entry_point_names("datasets")[name].load()
    return cast("Callable[[Path, str, Rejects], Benchmark]", found)


def _call(name: str, root: Path, split: str, frames: Path | None, skip_invalid: bool) -> Dataset:
    function: Callable[..., Any] = load_attribute(name)
    rejects = Rejects(skip_invalid, collect=True)
    try:
        n = len(inspect.signature(function).parameters)
        found = function(*(root, split, rejects)[: max(n, 1)])
    except LongVideoEnvError:
        raise
    except Exception as error:
        raise SpecError(f"the reader {name!r} failed: {type(error).__name__}: {error}") from error
    if isinstance(found, Dataset):
        return found
    short = name.rpartition(":")[2]
    if isinstance(found, Benchmark):
        return assemble(short, split or "all", found, rejects, root, frames, source=name)
    rows = rows_of(found)
    if rows is None:
        raise SpecError(f"the reader {name!r} must return rows, got {found!r:.60}.")
    return read_rows(
        rows,
        root,
        split=split or None,
        skip_invalid=skip_invalid,
        frames_root=frames,
        name=short,
        file=root,
    )
