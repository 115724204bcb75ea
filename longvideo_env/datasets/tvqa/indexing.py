"""Makes an index of a large split. All rows are checked, most of them by a fast check.

The fast check accepts only rows that are certainly valid. Every other row goes through `read_task`,
which reports the fault. So the same rows are accepted as without an index.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from array import array
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from itertools import count, islice
from json.scanner import make_scanner
from operator import itemgetter, le, methodcaller
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

import longvideo_env.errors as errors_module
from longvideo_env.datasets.dataset import Dataset, LazyVideos
from longvideo_env.datasets.jsonfile import read_text
from longvideo_env.datasets.layers import read_layers
from longvideo_env.datasets.rejects import MEND_ROW, Rejects, no_collector
from longvideo_env.datasets.tvqa.checking import GoldCheck
from longvideo_env.datasets.tvqa.index import (
    VERSION,
    ClipEntries,
    ClipTexts,
    LazyTasks,
    read_meta,
    write_pieces,
)
from longvideo_env.datasets.tvqa.layout import Sources
from longvideo_env.datasets.tvqa.material import ClipTimes, Texts, read_texts
from longvideo_env.datasets.tvqa.rows import RowPlace, no_clip_error, read_task
from longvideo_env.errors import DuplicateQidError, InvalidRowError
from longvideo_env.ids import group_by_video, parse_clip_id
from longvideo_env.schema import MAX_OPTIONS, Qid, Task

_OPTION_KEYS = ("a0", "a1", "a2", "a3", "a4")
_KNOWN_KEYS = frozenset(
    ("qid", "q", *_OPTION_KEYS, "answer", "ts", "episode_name", "occur_clip", "show_name", "bbox")
)
_ANSWERS = frozenset(_OPTION_KEYS)
_FIELDS = itemgetter("qid", "answer", "ts", "occur_clip", "episode_name")
_TEXTS = itemgetter("q", *_OPTION_KEYS)
_NUMBERS = (int, float)
_BOXES = (dict, type(None))
_TEXT = r'" *[^\s"\\\x00-\x1f][^"\\\x00-\x1f]*"'
_SECONDS = r"[0-9]{1,9}(?:\.[0-9]{1,20})?"
_ID = r"[A-Za-z0-9_@:-]+"
_PLAIN = {
    "qid": "(?P<qid>0|[1-9][0-9]{0,17})",
    **dict.fromkeys(("q", *_OPTION_KEYS, "show_name"), _TEXT),
    "answer": '"a[0-4]"',
    "ts": rf"\[(?P<start>{_SECONDS}), (?P<end>{_SECONDS})\]",
    "episode_name": f'"(?P<video>{_ID})"',
    "occur_clip": f'"(?P<clip>{_ID})"',
}
_NAMES = ("qid", "start", "end", "clip", "video")
_JSON = itemgetter(1)
_GAP = np.uint64(2)  # ", " between two plain rows
_TOGETHER = 512
_RawRows: TypeAlias = "list[re.Match[str]] | tuple[int, int, object]"
"""Plain rows; or start and end of a row's JSON, and its value."""
_SPACE = re.compile(r"\s*")
_BETWEEN = re.compile(r"\s*([,\]])\s*")


class IrregularFileError(Exception):
    """A file that needs the slower reader."""


class _Rows:
    """Checks rows and writes the valid ones.

    Args:
        file: The questions.
        rejects: Takes the errors of invalid rows.
        check: Checks gold against the folder's clips.
    """

    def __init__(self, file: Path, rejects: Rejects, check: GoldCheck) -> None:
        self._file = file
        self._check = check
        self._rejects = rejects
        self._text = read_text(file)
        with open(file, "rb") as head:
            self._offset = len(BOM_UTF8) if head.read(len(BOM_UTF8)) == BOM_UTF8 else 0
        self._ascii = self._text.isascii()
        # A lone surrogate cannot be written as UTF-8, so rows with one need the full check.
        self._escapes = "\\u" in self._text and re.search(r"\\u[dD]", self._text) is not None
        self._at_char = self._at_byte = 0
        self._bounds = array("Q")
        self._first: dict[str, int] = {}
        self._videos = _VideoOfClip()
        self.qids: list[Qid] = []
        self.clips: list[str | None] = []
        self.without_clip: dict[int, tuple[int, str]] = {}
        self.fewest_options = MAX_OPTIONS

    def read(self) -> None:
        """Check all rows."""
        try:
            for number, rows in _raw_rows(self._text):
                if isinstance(rows, tuple):
                    self._add(number, *rows)
                elif not self._take(number, rows):
                    for n, row in enumerate(rows, start=number):
                        self._add(n, *row.span(1), json.loads(row[1]))
        except TypeError as error:  # such as a list for an answer
            raise IrregularFileError from error
        self._text = ""

    def _take(self, number: int, rows: list[re.Match[str]]) -> bool:
        """Keep plain rows if all of them are valid. Checking them together is faster."""
        groups = methodcaller("group", *map(rows[0].re.groupindex.__getitem__, _NAMES))
        texts, starts, ends, clips, video_ids = zip(*map(groups, rows), strict=True)
        names, ends_s = set(texts), list(map(float, ends))
        good = len(names) == len(rows) and self._first.keys().isdisjoint(names)
        good = good and all(map(le, map(float, starts), ends_s))
        good = good and list(map(self._videos.__getitem__, clips)) == list(video_ids)
        fine = self._check.fine
        if not (good and (fine.issuperset(clips) or all(map(self._check.is_fine, clips, ends_s)))):
            return False
        self._first.update(zip(texts, count(number)))
        self.qids += map(int, texts)
        self.clips += clips
        self.fewest_options = min(self.fewest_options, len(_OPTION_KEYS))
        first = self._place_in_bytes(*rows[0].span(1))[0]
        sizes = np.fromiter(map(len, map(str.encode, map(_JSON, rows))), np.uint64, len(rows))
        stops = np.cumsum(sizes + _GAP) - _GAP + np.uint64(first)
        self._bounds.frombytes(np.stack([stops - sizes, stops], axis=1).tobytes())
        self._at_char, self._at_byte = rows[-1].end(1), int(stops[-1])
        return True

    def _add(self, number: int, start: int, end: int, row: object) -> None:
        """Keep or reject a row. `start` and `end` are its position in the text."""
        clip_id = self._quick_clip(row)
        start, end = self._place_in_bytes(start, end)
        if clip_id is not None:
            qid, n_options = cast("dict[str, Any]", row)["qid"], len(_OPTION_KEYS)
        else:
            task = self._read(number, row)
            if task is None:
                return
            qid, clip_id = task.qid, task.gold.clip_id
            n_options = len(task.question.options)
            if clip_id is None:
                self.without_clip[len(self.qids)] = (number, task.question.video_id)
        first = self._first.setdefault(str(qid), number)
        if first != number:
            self._rejects.add(
                RowPlace(self._file, number, qid).error(
                    DuplicateQidError,
                    f"expected a unique qid, but rows {first} and {number} share it.",
                )
            )
            return
        if n_options < self.fewest_options:
            self.fewest_options = n_options
        self.qids.append(qid)
        self.clips.append(clip_id)
        self._bounds.extend((start, end))

    def write(self, folder: Path) -> None:
        """Write a copy of the file, and the position of each row in it."""
        shutil.copyfile(self._file, folder / "rows.bin")
        bounds = np.frombuffer(self._bounds, dtype=np.uint64).reshape(-1, 2)
        np.save(folder / "rows.npy", bounds + np.uint64(self._offset))

    def _place_in_bytes(self, start: int, end: int) -> tuple[int, int]:
        """Convert character to byte offsets. Rows come in order, with only ASCII between them."""
        if self._ascii:
            return start, end
        start_byte = self._at_byte + start - self._at_char
        raw = self._text[start:end]
        n_bytes = end - start if raw.isascii() else len(raw.encode())
        self._at_char, self._at_byte = end, start_byte + n_bytes
        return start_byte, self._at_byte

    def _read(self, number: int, row: object) -> Task | None:
        place = RowPlace(self._file, number)
        try:
            task = read_task(row, place)
        except InvalidRowError as error:
            self._rejects.add(error, error.__cause__)
            return None
        if wrong := self._check.error(task, place):
            self._rejects.add(wrong)
            return None
        return task

    def _quick_clip(self, row: object) -> str | None:
        """The gold clip of a row that is certainly valid, else None."""
        if self._escapes or type(row) is not dict or not _KNOWN_KEYS.issuperset(row):
            return None
        try:
            qid, answer, (start, end), clip_id, video_id = _FIELDS(row)
            good = all(map(str.strip, _TEXTS(row))) and answer in _ANSWERS
            good = good and self._videos[clip_id] == video_id
        except (KeyError, TypeError, ValueError):
            return None
        if not good or type(qid) is not int or type(row["ts"]) is not list:
            return None
        if type(start) not in _NUMBERS or type(end) not in _NUMBERS:
            return None
        if not 0 <= start <= end < math.inf:
            return None
        if clip_id not in self._check.fine and not self._check.is_fine(clip_id, end):
            return None
        return clip_id if type(row.get("bbox")) in _BOXES else None


class _VideoOfClip(dict[str, str | None]):
    """Clip id -> its video's id, or None if it is not a clip id."""

    def __missing__(self, clip_id: str) -> str | None:
        name = parse_clip_id(clip_id)
        self[clip_id] = name.video_id if name else None
        return self[clip_id]


@no_collector()
def build_index(folder: Path, sources: Sources, skip_invalid: bool) -> None:
    """Write the index of a split into an empty folder.

    Raises:
        DataError: As `load_dataset`.
        IrregularFileError: The file needs the slower reader.
    """
    rejects = Rejects(skip_invalid, collect=True)
    texts = read_texts(sources, rejects)
    rows = _Rows(sources.questions, rejects, GoldCheck(texts))
    rows.read()
    videos = group_by_video({*texts.clip_ids, *(clip for clip in rows.clips if clip)})
    for number, video_id in rows.without_clip.values():
        if video_id not in videos:
            if skip_invalid:
                raise IrregularFileError
            rejects.add(no_clip_error(sources.questions, number, None, video_id))
    rejects.finish()
    _write(folder, rows, texts, videos, rejects)


def _write(
    folder: Path,
    rows: _Rows,
    texts: Texts,
    videos: Mapping[str, tuple[str, ...]],
    rejects: Rejects,
) -> None:
    rows.write(folder)
    clips = [clip_id for ids in videos.values() for clip_id in ids]
    numbers: dict[str | None, int] = {clip_id: i for i, clip_id in enumerate(clips)}
    write_pieces(folder / "subtitles", (texts.subtitles.get(c, "") for c in clips))
    for name, entries in (("timed", texts.timed), ("captions", texts.captions)):
        write_pieces(
            folder / name,
            (json.dumps(entries[c]) if c in entries else "" for c in clips),
        )
    gold = np.fromiter((numbers.get(c, -1) for c in rows.clips), np.int32, len(rows.clips))
    np.save(folder / "gold.npy", gold)
    (folder / "qids.json").write_text(json.dumps(rows.qids), encoding="utf-8")
    meta = {
        "version": VERSION,
        "videos": videos,
        "times": texts.times.as_json(),
        "fewest_options": rows.fewest_options,
        "skipped": [
            [type(e).__name__, e.problem, None if e.file is None else str(e.file), e.row]
            for e in rejects.errors
        ],
    }
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


@no_collector()
def open_index(folder: Path, sources: Sources) -> Dataset:
    """The dataset of an index."""
    meta = read_meta(folder)
    videos = {video_id: tuple(ids) for video_id, ids in meta["videos"].items()}
    clips = [clip_id for ids in videos.values() for clip_id in ids]
    numbers = {clip_id: i for i, clip_id in enumerate(clips)}
    return Dataset(
        name=sources.name,
        split=sources.split,
        tasks=LazyTasks(folder, sources.questions),
        videos=LazyVideos(
            videos,
            ClipTexts(folder / "subtitles", numbers),
            ClipEntries(ClipTexts(folder / "captions", numbers)),
            sources.frames_root,
            timed=ClipEntries(ClipTexts(folder / "timed", numbers)),
            times=ClipTimes.from_json(meta["times"]),
            layers=read_layers(sources.layers, Rejects(skip_invalid=True)),
        ),
        skipped=tuple(_error(*fields) for fields in meta["skipped"]),
        root=sources.root,
    )


def _error(kind: str, problem: str, file: str | None, row: int | str | None) -> InvalidRowError:
    made: InvalidRowError = vars(errors_module)[kind](
        problem, None if file is None else Path(file), row, MEND_ROW
    )
    return made


def _raw_rows(text: str) -> Iterator[tuple[int, _RawRows]]:
    """Number and row; or the number of the first of several plain rows, and these rows."""
    start = _after_space(text, 0)
    if text.startswith("[", start):
        return _array_rows(text, start + 1)
    if text.startswith("{", start):
        return _line_rows(text)
    raise IrregularFileError


def _array_rows(text: str, start: int) -> Iterator[tuple[int, _RawRows]]:
    # Reads one value at a position, like `raw_decode` but faster.
    scan = make_scanner(json.JSONDecoder())  # type: ignore[arg-type] # typeshed names another class
    at, number, more = _after_space(text, start), 1, ","
    plain: Any = None  # typeshed does not know its `scanner`
    while more == ",":
        if plain and (rows := list(islice(iter(plain.scanner(text, at).match, None), _TOGETHER))):
            yield number, rows
            number, at = number + len(rows), rows[-1].end()
            continue
        try:
            row, end = scan(text, at)
        except (StopIteration, ValueError, RecursionError) as error:
            raise IrregularFileError from error
        if number == 1:
            plain = _plain_row(row)
        yield number, (at, end, row)
        between = _BETWEEN.match(text, end)
        if between is None:
            raise IrregularFileError
        more, at, number = between[1], between.end(), number + 1
    if at != len(text):
        raise IrregularFileError


def _plain_row(row: object) -> re.Pattern[str] | None:
    """A pattern for rows with the same keys in the same order, formatted as json.dump does.

    It matches texts without escapes and plain numbers, so a match is valid JSON of the right types.
    None if a key is unknown.
    """
    if not isinstance(row, dict) or not {*_PLAIN} - {"show_name"} <= row.keys() <= {*_PLAIN}:
        return None
    fields = ", ".join(f'"{key}": {_PLAIN[key]}' for key in row)
    return re.compile(rf"({{{fields}}}), (?={{)")


def _line_rows(text: str) -> Iterator[tuple[int, _RawRows]]:
    start = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise IrregularFileError from error
            yield number, (start, start + len(line), row)
        start += len(line) + 1


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
