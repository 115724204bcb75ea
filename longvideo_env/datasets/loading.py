"""`load_dataset`: from files to a `Dataset`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from longvideo_env.datasets.altered import PREFIX, alter, split_variant
from longvideo_env.datasets.dataset import Dataset
from longvideo_env.datasets.finding import load_benchmark, named_reader
from longvideo_env.datasets.jsonfile import read_rows as read_json_rows
from longvideo_env.datasets.own.in_memory import rows_of
from longvideo_env.datasets.own.ingested import lazy_videos
from longvideo_env.datasets.own.questions_table import read_file, read_rows
from longvideo_env.datasets.own.table_files import SUFFIXES
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.checking import GoldCheck
from longvideo_env.datasets.tvqa.index import VERSION
from longvideo_env.datasets.tvqa.indexing import IrregularFileError, build_index, open_index
from longvideo_env.datasets.tvqa.layout import Sources, find_sources, splits_of
from longvideo_env.datasets.tvqa.material import read_texts
from longvideo_env.datasets.tvqa.rows import RowPlace, no_clip_error, read_tasks
from longvideo_env.errors import DatasetNotFoundError, SeveralSplitsError, SpecError
from longvideo_env.ids import group_by_video
from longvideo_env.records.cached_folder import cached_folder, digest
from longvideo_env.schema import Task

_QUESTION_KEY = re.compile(rb'"(q|question)"\s*:')

INDEX_FROM_BYTES = 20_000_000
"""Total file size from which a split is read through an index on disk."""


def load_dataset(
    dataset: object,
    split: str | None = None,
    *,
    frames_root: str | Path | None = None,
    skip_invalid: bool = False,
) -> Dataset:
    """Load one split of a dataset. Another call returns the same object until a file changes.

    A video has the clips that the subtitles, the captions and the split's questions name. Without
    subtitles, as in raw TVQA, clips named by the other splits' questions are added. Otherwise a
    video would consist of gold clips only.

    Args:
        dataset: `embedded`; `mini`, or such as `mini:videos=200,seed=3,difficulty=0.5` (see
            `datasets.mini.generator`); `hf:OWNER/NAME`, a dataset on the hub; `NAME:FOLDER` or
            `NAME:hf:OWNER/NAME` for the reader of another benchmark, `module:function@FOLDER` for
            one of your own (see `datasets.finding`); `variant:NAME@DATASET`, a dataset with one
            thing changed (see `datasets.altered`); a folder; or one file of questions (see
            `datasets.own` for tables), with subtitles, captions and frames beside it. Also a list
            of dicts, a pandas DataFrame, a `datasets.Dataset` (see `datasets.own`), or a `Dataset`,
            which is returned unchanged.
        split: Such as train, val or test. May be left out if there is only one. A file with an
            unknown name may be called any split.
        frames_root: Folder of the frames; `frames` in the dataset's folder by default.
        skip_invalid: Leave invalid rows out and list them in `Dataset.skipped`.

    Raises:
        DatasetNotFoundError: No such dataset, split or file.
        MalformedFileError: A file is truncated, not UTF-8, not JSON, or has another shape.
        InvalidRowError: Or a subclass: a row is wrong, and `skip_invalid` is False.
        SpecError: An option of `mini` is invalid.
    """
    if isinstance(dataset, Dataset):
        return dataset
    frames = None if frames_root is None else Path(frames_root).expanduser().resolve()
    if (rows := rows_of(dataset)) is not None:
        return read_rows(rows, split=split, skip_invalid=skip_invalid, frames_root=frames)
    name = str(dataset)
    if name.startswith(PREFIX):
        variant, whole = split_variant(name)
        full = load_dataset(whole, split, frames_root=frames_root, skip_invalid=skip_invalid)
        return alter(full, variant)
    if name.partition(":")[0] == "mini":
        # Imported here, because `python -m` warns about a module that is already imported.
        from longvideo_env.datasets.mini.generator import load_mini_spec

        return load_mini_spec(name, _needed(split, ("train", "val", "test"), name), frames_root)
    if reader := named_reader(name):
        return load_benchmark(*reader, split or "", frames_root, skip_invalid)
    try:
        if path := _table(name):
            return read_file(path, split, skip_invalid=skip_invalid, frames_root=frames)
        sources = find_sources(name, split or _only_split(name), frames_root)
        state = sources.state()
    except SpecError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in a path
        raise DatasetNotFoundError(
            f"the dataset {dataset!r:.200} cannot be opened ({error!s:.200}).",
            mend="check the path and its permissions.",
        ) from error
    return _load(sources, state, skip_invalid)


def _needed(split: str | None, there: Sequence[str], dataset: str) -> str:
    if split is not None:
        return split
    if len(there) == 1:
        return there[0]
    raise SeveralSplitsError(dataset, there)


def _table(dataset: str) -> Path | None:
    """The path of a table of questions. None for TVQA's layouts and for folders."""
    path = Path(dataset).expanduser()
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return None
    if path.suffix.lower() in (".json", ".jsonl"):
        with open(path, "rb") as file:
            key = _QUESTION_KEY.search(file.read(65_536))
        if key is None or key[1] == b"q":
            return None
    return path.resolve()


def _only_split(dataset: str) -> str:
    there = splits_of(dataset)
    return _needed(None, there, dataset) if there else "all"


# The files' state is part of the cache key, so a changed file is read again.
@lru_cache(maxsize=8)
def _load(sources: Sources, state: object, skip_invalid: bool) -> Dataset:
    if sources.n_bytes() >= INDEX_FROM_BYTES:
        group = f"{re.sub(r'[^A-Za-z0-9]+', '-', sources.name)[:40]}-{digest(sources)}"
        key = digest(VERSION, state, skip_invalid)
        try:
            folder = cached_folder(group, key, lambda new: build_index(new, sources, skip_invalid))
            return open_index(folder, sources)
        except (OSError, IrregularFileError):
            pass  # the cache cannot be written, or a file needs the slower reader
    return _read(sources, skip_invalid)


def _read(sources: Sources, skip_invalid: bool) -> Dataset:
    rejects = Rejects(skip_invalid, collect=True)
    found = read_tasks(sources.questions, read_json_rows(sources.questions, rejects), rejects)
    texts = read_texts(sources, rejects)
    tasks, check = [], GoldCheck(texts)
    for row, task in found:
        if error := check.error(task, RowPlace(sources.questions, row)):
            rejects.add(error)
        else:
            tasks.append((row, task))
    gold_clips = {clip_id for _, task in tasks for clip_id in task.gold.clip_ids}
    by_video = group_by_video(texts.clip_ids | gold_clips)
    kept = _with_clips(tasks, set(by_video), sources.questions, rejects)
    rejects.finish()
    return Dataset(
        name=sources.name,
        split=sources.split,
        tasks=kept,
        videos=lazy_videos(by_video, texts, sources),
        skipped=tuple(rejects.errors),
        root=sources.root,
    )


def _with_clips(
    tasks: list[tuple[int, Task]], videos: set[str], file: Path, rejects: Rejects
) -> tuple[Task, ...]:
    """The tasks whose video has at least one clip."""
    kept: list[Task] = []
    for row, task in tasks:
        if task.question.video_id in videos:
            kept.append(task)
        else:
            rejects.add(no_clip_error(file, row, task.qid, task.question.video_id))
    return tuple(kept)
