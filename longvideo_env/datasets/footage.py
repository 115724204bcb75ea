"""From a benchmark with whole videos to a `Dataset` with clips: what every reader of one shares.

A reader says what its videos hold and what is asked (`Footage`, `Item`); `assemble` cuts videos
into clips, moves times, and checks every question as `read_task` does. A reader is found by its
name through the entry points `longvideo_env.datasets`, and used as `NAME:FOLDER`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.datasets.dataset import Dataset, LazyVideos
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.datasets.tvqa.material import ClipTimes
from longvideo_env.datasets.tvqa.rows import RowPlace, read_task
from longvideo_env.errors import DatasetNotFoundError, DuplicateQidError, InvalidRowError
from longvideo_env.ids import safe_video_id
from longvideo_env.media.subtitles import cut_to_clips
from longvideo_env.schema import Gold, Qid, Task, TimedText

CLIP_S = 60.0
MAX_CLIPS = 100_000


@dataclass(frozen=True, slots=True)
class Footage:
    """What is known of one video, in its own time.

    Attributes:
        subtitles: Dialogue.
        captions: What is to be seen.
        length_s: Its length, where it is known; else the last text or span ends it.
    """

    subtitles: Sequence[TimedText] = ()
    captions: Sequence[TimedText] = ()
    length_s: float | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One question as a benchmark asks it.

    Attributes:
        row: Its place in the file, for messages.
        qid: Its id.
        text: The question.
        options: Two to eight, without labels.
        answer: Index of the right one, or None.
        video: The video's name, as in `Benchmark.footage`.
        spans: `(start_s, end_s)` in the video of what shows the answer.
        show: What accuracy is grouped by: such as a category.
    """

    row: int
    qid: Qid
    text: Any
    options: Sequence[Any]
    answer: Any
    video: str
    spans: Sequence[tuple[float, float]] = ()
    show: str | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What a reader returns.

    Attributes:
        file: The questions' file, for messages.
        items: The questions.
        footage: Videos by name; those that no question is about are left out.
        clip_s: How long a clip is.
    """

    file: Path
    items: Iterable[Item]
    footage: Mapping[str, Footage] = field(default_factory=dict)
    clip_s: float = CLIP_S


_READ = (".json", ".jsonl", ".srt", ".vtt", ".csv", ".tsv", ".parquet", ".txt")

Reader: TypeAlias = Callable[[Path, str, Rejects], Benchmark]
"""Takes the folder, the split, and what takes the errors of invalid rows."""


def named_reader(dataset: str) -> tuple[str, str] | None:
    """Name and folder of `NAME:FOLDER`; None if no reader has that name."""
    name, colon, folder = dataset.partition(":")
    return (name, folder) if colon and name in _readers() else None


def load_benchmark(
    name: str, folder: str, split: str, frames_root: str | Path | None, skip_invalid: bool
) -> Dataset:
    """Read a benchmark. A second call gives the same object until its files change.

    Raises:
        DataError: As `load_dataset`.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise DatasetNotFoundError("no such folder.", root, None, f"pass {name}:FOLDER.")
    frames = root / "frames" if frames_root is None else Path(frames_root).expanduser().resolve()
    found = frames if frames.is_dir() else None
    return _load(name, root, split, found, skip_invalid, _state_of(root, frames))


def _state_of(root: Path, frames: Path) -> tuple[tuple[str, int, int], ...]:
    """Time of change and size of each file that a reader may open: frames and videos are not."""
    state = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != frames]
        for name in files:
            if name.endswith(_READ):
                stat = os.stat(os.path.join(folder, name))
                state.append((os.path.join(folder, name), stat.st_mtime_ns, stat.st_size))
    return tuple(sorted(state))


@lru_cache(maxsize=8)
def _load(
    name: str, root: Path, split: str, frames: Path | None, skip_invalid: bool, _state: object
) -> Dataset:
    rejects = Rejects(skip_invalid)
    reader: Reader = _readers()[name].load()
    return assemble(name, split, reader(root, split, rejects), rejects, root, frames)


@cache
def _readers() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="longvideo_env.datasets")}


def assemble(
    name: str,
    split: str,
    benchmark: Benchmark,
    rejects: Rejects,
    root: Path | None = None,
    frames_root: Path | None = None,
) -> Dataset:
    """Cut the videos into clips, and turn the items into tasks.

    Raises:
        InvalidRowError: An item is wrong, and invalid rows are not skipped.
    """
    items = list(benchmark.items)
    cutter = _Cutter(benchmark, items)
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for item in items:
        place = RowPlace(benchmark.file, item.row, item.qid)
        try:
            first = seen.setdefault(str(item.qid), item.row)
            if first != item.row:
                raise place.error(
                    DuplicateQidError, f"expected a qid of its own; rows {first} and {item.row}."
                )
            tasks.append(_task(item, place, cutter))
        except InvalidRowError as error:
            rejects.add(error, error.__cause__)
    return Dataset(
        name=name,
        split=split,
        tasks=tuple(tasks),
        videos=LazyVideos(
            cutter.clip_ids,
            {},
            cutter.captions,
            frames_root,
            timed=cutter.subtitles,
            times=ClipTimes(cutter.spans),
        ),
        skipped=tuple(rejects.errors),
        root=root,
    )


class _Cutter:
    """Cuts all videos into clips."""

    def __init__(self, benchmark: Benchmark, items: Sequence[Item]) -> None:
        self.clip_ids: dict[str, tuple[str, ...]] = {}
        self.spans: dict[str, tuple[float, float]] = {}
        self.subtitles: dict[str, list[dict[str, Any]]] = {}
        self.captions: dict[str, list[dict[str, Any]]] = {}
        self._clip_s = benchmark.clip_s
        ends: dict[str, float] = {}
        for item in items:
            ends[item.video] = max([ends.get(item.video, 0.0), *(end for _, end in item.spans)])
        for video, end_s in ends.items():
            self._cut(video, benchmark.footage.get(video, Footage()), end_s)

    def _cut(self, video: str, footage: Footage, end_s: float) -> None:
        texts = (*footage.subtitles, *footage.captions)
        # The length of a video goes before what subtitles say of it: those may run on.
        length = footage.length_s or max([end_s, *(text.end_s or 0.0 for text in texts)])
        n = min(MAX_CLIPS, max(1, -int(-max(length, end_s) // self._clip_s)))
        video_id = safe_video_id(video)
        clip_ids = tuple(f"{video_id}_seg01_clip_{i:02d}" for i in range(n))
        spans = [(i * self._clip_s, (i + 1) * self._clip_s) for i in range(n)]
        self.clip_ids[video_id] = clip_ids
        self.spans.update(zip(clip_ids, spans, strict=True))
        self.subtitles.update(zip(clip_ids, cut_to_clips(footage.subtitles, spans), strict=True))
        self.captions.update(zip(clip_ids, cut_to_clips(footage.captions, spans), strict=True))

    def clues(self, item: Item) -> tuple[tuple[str, float, float], ...]:
        """The clip and times in it of each span; a span over several clips counts in each."""
        clip_ids = self.clip_ids[safe_video_id(item.video)]
        found = []
        for start, end in item.spans:
            first, last = int(start // self._clip_s), int(end // self._clip_s)
            for i in range(first, min(last, len(clip_ids) - 1) + 1):
                at = i * self._clip_s
                inside = (max(start, at) - at, min(end, at + self._clip_s) - at)
                if inside[0] < inside[1] or start == end:
                    found.append((clip_ids[i], *inside))
        return tuple(found)


def _task(item: Item, place: RowPlace, cutter: _Cutter) -> Task:
    row = {
        "qid": item.qid,
        "q": item.text,
        **{f"a{i}": option for i, option in enumerate(item.options)},
        "answer": item.answer,
        "episode_name": safe_video_id(item.video),
        "show_name": item.show,
    }
    task = read_task(row, place)
    clues = cutter.clues(item)
    if not clues:
        return task
    clip_id, *span = clues[0]
    gold = Gold(task.gold.answer, clip_id, (span[0], span[1]), None, clues)
    return Task(task.question, gold)


_LABELLED = re.compile(r"\s*\(?([A-Ha-h])\s*[.):]\s*")


def without_labels(options: object) -> list[Any]:
    """Options without their `A. `, `(B) ` ...: where every one carries its own label, in order."""
    if not isinstance(options, list):
        return []
    found = [_LABELLED.match(option) if isinstance(option, str) else None for option in options]
    labels = [match[1].upper() if match else None for match in found]
    if labels != [chr(ord("A") + i) for i in range(len(options))]:
        return options
    return [option[match.end() :] for option, match in zip(options, found, strict=True) if match]


def answer_index(value: object) -> object:
    """`"C"` or `"C."` as 2; everything else as it is, for `read_task` to judge."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*\(?([A-H])\)?\.?\s*", value)):
        return ord(match[1]) - ord("A")
    return value


def read_spans(value: object, file: Path, row: int) -> list[tuple[float, float]]:
    """`[[start_s, end_s], ...]`; none for null.

    Raises:
        InvalidRowError: It is of another shape.
    """
    pairs: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    spans = []
    for pair in pairs:
        good = isinstance(pair, list) and len(pair) == 2
        if not good or not all(type(t) in (int, float) and 0 <= t < 1e6 for t in pair):
            raise InvalidRowError(
                f"expected [start, end] in seconds, got {pair!r:.60}.", file, row, MEND_ROW
            )
        spans.append((float(min(pair)), float(max(pair))))
    return spans
