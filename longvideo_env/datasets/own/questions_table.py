"""Your own questions: a table in a file or in memory.

    load_dataset([{"question": "Who comes in?", "options": ["Ann", "Bo"], "answer": "Bo",
                   "video": "film.mp4", "subtitles": "film.srt", "start_s": 75, "end_s": 80}])
    load_dataset("questions.csv")

| column | holds |
|---|---|
| `question` | the question |
| `options`, or `a0`, `a1`, ..., or `A`, `B`, ... | two to sixteen; none for an answer in words |
| `answer` | a label (`a1`), a letter, an index from 0, or the option's text; may be empty |
| `video` | its name or file; left out where `subtitles` name it |
| `qid` | the question's id; by default `q1`, `q2`, ... |
| `start_s`, `end_s` | what shows the answer, in seconds of the whole video |
| `subtitles` | a file, its text, or a list of `{start, end, text}`; by default beside the video |
| `frames` | the folder that `longvideo-env ingest` made of the video: its clips are taken |
| `duration_s` | the video's length |
| `split` | which split the row belongs to |

Paths are relative to the file. In a folder that `ingest` made, questions are about its film. Other
columns with short texts become groups for the accuracy.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePath
from string import ascii_uppercase
from typing import Any

from longvideo_env.datasets.assembling import assemble
from longvideo_env.datasets.dataset import Dataset
from longvideo_env.datasets.footage import CLIP_S, Benchmark, Footage, Item
from longvideo_env.datasets.jsonfile import is_clean_text
from longvideo_env.datasets.own.answer_keys import is_absent, read_options
from longvideo_env.datasets.own.in_memory import content_hash
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.datasets.own.sidefiles import SUFFIXES, read_lines, spread
from longvideo_env.datasets.own.table_files import Row, read_table
from longvideo_env.datasets.rejects import MEND_ROW, Rejects, no_collector
from longvideo_env.errors import DataError, DatasetNotFoundError, InvalidRowError, SpecError
from longvideo_env.schema import MAX_OPTIONS, TimedText, Video

NAMED = ("question", "options", "answer", "video", "qid", "start_s", "end_s", "subtitles", "frames")
KNOWN = (*NAMED, "duration_s", "split")
_OPTION_COLUMNS = (
    tuple(f"a{i}" for i in range(MAX_OPTIONS)),
    tuple(ascii_uppercase[:MAX_OPTIONS]),
)
_ALL_OPTIONS = frozenset(name for names in _OPTION_COLUMNS for name in names)
_NO_FACTS = _ALL_OPTIONS.union(KNOWN)
_FILM = re.compile(r"\.(?:mp4|mkv|webm|avi|mov|m4v|mpg|mpeg|ts|flv|wmv|mp3|wav|m4a)\Z", re.I)
_LONGEST_FACT = 60
_PLACES = ("", "subtitles", "subtitle")


def read_rows(
    rows: Iterable[Row],
    base: Path | None = None,
    *,
    split: str | None = None,
    skip_invalid: bool = False,
    frames_root: Path | None = None,
    clip_s: float = CLIP_S,
    name: str = "rows",
    file: Path | None = None,
) -> Dataset:
    """Make a dataset from a table of questions.

    Args:
        rows: One question per row; see the columns above.
        base: The folder that paths are relative to; by default the working folder.
        split: The rows to take if the table has a column `split`; otherwise only a name.
        skip_invalid: Leave invalid rows out.
        frames_root: Folder of the clips' frames.
        clip_s: Length of a clip in seconds; at least 1.
        name: Name of the dataset.
        file: The table's file, for error messages.

    Raises:
        InvalidRowError: A row is invalid. The message names all kinds of faults.
        DatasetNotFoundError: There is no question, or none in that split.
        SpecError: `clip_s` is below 1.
    """
    kept = list(rows)
    source = f"{name}:{content_hash(kept)}" if file is None else ""
    table = _in_split(list(enumerate(kept, start=1)), split, file or Path(name))
    rejects = Rejects(skip_invalid, collect=True)
    return _assemble(
        table, rejects, base, split, frames_root, clip_s, name, file or Path(name), source
    )


def read_file(
    path: Path,
    split: str | None = None,
    *,
    skip_invalid: bool = False,
    frames_root: Path | None = None,
    clip_s: float = CLIP_S,
) -> Dataset:
    """Make a dataset from a file of questions.

    Raises:
        DataError: As `load_dataset`.
    """
    rejects = Rejects(skip_invalid, collect=True)
    with no_collector():
        table = _in_split(list(read_table(path, rejects)), split, path)
    beside = path.parent / "frames"
    frames = frames_root or (beside if beside.is_dir() else None)
    return _assemble(table, rejects, path.parent, split, frames, clip_s, path.stem, path, "")


def _assemble(
    table: Sequence[tuple[int, Row]],
    rejects: Rejects,
    base: Path | None,
    split: str | None,
    frames_root: Path | None,
    clip_s: float,
    name: str,
    file: Path,
    source: str,
) -> Dataset:
    if not clip_s >= 1:
        raise SpecError(f"clip_s must be at least 1 second, got {clip_s!r}.")
    reader = _Reader(base or Path(), file, rejects)
    with no_collector():
        items = reader.read(table)
        films = reader.ingested()
        benchmark = Benchmark(file, items, reader.footage(films), clip_s, films=films)
        return assemble(name, split or "all", benchmark, rejects, base, frames_root, source)


def _in_split(table: list[tuple[int, Row]], split: str | None, file: Path) -> list[tuple[int, Row]]:
    if not any("split" in row for _, row in table):
        return table
    there = sorted({str(row.get("split")).strip() for _, row in table})
    if split is None and len(there) == 1:
        return table
    chosen = [(n, row) for n, row in table if str(row.get("split")).strip() == split]
    if not chosen and table:
        raise DatasetNotFoundError(
            f"no split {split!r} in the column 'split'; splits: {', '.join(there)}.",
            file,
            None,
            "pass one of these as split.",
        )
    return chosen


class _Reader:
    """Turns rows into items, and collects what the rows say about their videos."""

    def __init__(self, base: Path, file: Path, rejects: Rejects) -> None:
        self._base, self._file, self._rejects = base, file, rejects
        self._subtitles: dict[str, object] = {}
        self._lengths: dict[str, float] = {}
        self._films: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._frames: dict[str, str] = {}
        self._folders: dict[Path, Mapping[str, Video]] = {}
        self._faults: dict[tuple[str, ...], str | None] = {}

    def read(self, table: Sequence[tuple[int, Row]]) -> list[Item]:
        items = []
        for number, row in table:
            try:
                items.append(self._item(number, row))
            except ValueError as error:
                self._rejects.add(
                    InvalidRowError(
                        f"{error} The row: {_shortened(row)}.", self._file, number, MEND_ROW
                    )
                )
        return _apart(items)

    def ingested(self) -> dict[str, Video]:
        """The videos that `ingest` has cut into clips, by name."""
        found: dict[str, Video] = {}
        for video in self._films:
            given = self._frames.get(video)
            folder = self._base if given is None else self._base / Path(given).expanduser()
            if given is None and not (folder / "clips.json").is_file():
                continue
            if folder not in self._folders:
                try:
                    self._folders[folder] = load_videos(folder)
                except (DataError, OSError, ValueError) as error:
                    name = ascii(str(given or folder.name))[:80]
                    self._rejects.side_file(name, f"{error!s:.200}")
                    self._folders[folder] = {}
            there = self._folders[folder]
            if video in there:
                found[video] = there[video]
            elif given is not None and len(there) == 1:
                found[video] = next(iter(there.values()))
        return found

    def footage(self, films: Mapping[str, Video]) -> dict[str, Footage]:
        """What is known about the other videos."""
        found = {}
        for video in self._films.keys() - films.keys():
            length = self._lengths.get(video)
            found[video] = Footage(self._lines(video, length), (), length)
        return found

    def _item(self, number: int, row: Row) -> Item:
        columns = tuple(row)
        if columns not in self._faults:
            self._faults[columns] = _misspelt(columns)
        if fault := self._faults[columns]:
            raise ValueError(fault)
        video = self._video(row)
        self._remember(video, row)
        qid = row.get("qid")
        return Item(
            number,
            f"q{number}" if is_absent(qid) else _whole(qid),
            row.get("question"),
            _options(row),
            row.get("answer"),
            video,
            _spans(row),
            facts=_facts(row),
        )

    def _video(self, row: Row) -> str:
        """The video's name. Files with the same name in different folders stay separate."""
        value, subtitles = row.get("video"), row.get("subtitles")
        if is_absent(value):
            if is_clean_text(subtitles) and _is_path(subtitles):
                value = subtitles
            else:
                raise ValueError("expected a video in 'video', or a file in 'subtitles'.")
        text = str(_whole(value)).strip()
        if text not in self._names:
            stem = PurePath(text).stem if _FILM.search(text) or _is_path(text) else text
            known = self._films.setdefault(stem, text)
            if known != text and PurePath(known).parent != PurePath(text).parent:
                self._films[text] = text
                stem = text
            self._names[text] = stem
        return self._names[text]

    def _remember(self, video: str, row: Row) -> None:
        if not is_absent(subtitles := row.get("subtitles")):
            self._subtitles.setdefault(video, subtitles)
        if not is_absent(frames := row.get("frames")):
            self._frames.setdefault(video, str(frames))
        if not is_absent(length := row.get("duration_s")):
            seconds = _seconds(length, "duration_s")
            if seconds > 0:
                self._lengths.setdefault(video, seconds)

    def _lines(self, video: str, length_s: float | None) -> tuple[TimedText, ...]:
        given = self._subtitles.get(video)
        if given is None:
            return self._beside(self._films[video])
        if isinstance(given, list | tuple):
            return _given_lines(given, video, self._rejects)
        text = str(given)
        if _is_path(text):
            path = self._base / Path(text).expanduser()
            if path.is_file():
                return read_lines(path, self._rejects, text)
            self._rejects.side_file(text, "no such file")
            return ()
        if "-->" in text:
            with tempfile.TemporaryDirectory() as scratch:
                suffix = ".vtt" if text.lstrip().startswith("WEBVTT") else ".srt"
                path = Path(scratch, f"given{suffix}")
                path.write_text(text, encoding="utf-8", errors="replace")
                return read_lines(path, self._rejects, f"subtitles of {video}")
        return spread([line.strip() for line in text.splitlines() if line.strip()], length_s)

    def _beside(self, film: str) -> tuple[TimedText, ...]:
        """Subtitles that have the film's name and lie beside it or in `subtitles/`."""
        path = Path(film)
        stem = path.stem if _FILM.search(film) else path.name
        for folder in dict.fromkeys([self._base / path.parent, *(self._base / p for p in _PLACES)]):
            for suffix in SUFFIXES:
                try:
                    if (found := folder / f"{stem}{suffix}").is_file():
                        return read_lines(found, self._rejects)
                except (OSError, ValueError):  # not a valid file name
                    return ()
        return ()


def _apart(items: list[Item]) -> list[Item]:
    """Prefix ids with the video's name if they are unique only within a video, as in NExT-QA."""
    if len({str(item.qid) for item in items}) == len(items):
        return items
    if len({(item.video, str(item.qid)) for item in items}) < len(items):
        return items
    return [replace(item, qid=f"{item.video}_{item.qid}") for item in items]


def _misspelt(columns: Sequence[str]) -> str | None:
    """A message if an unknown column looks like a missing one; otherwise None."""
    missing = [name for name in KNOWN if name not in columns]
    for column in columns:
        if column in KNOWN or column in _ALL_OPTIONS:
            continue
        near = get_close_matches(column.strip().lower(), missing, n=1, cutoff=0.75)
        if near:
            return f"expected the column {near[0]!r}, got {column!r}."
    return None


def _options(row: Row) -> list[Any] | None:
    if "options" in row:
        return None if is_absent(row["options"]) else read_options(row["options"])
    for names in _OPTION_COLUMNS:
        if names[0] in row:
            values = [row.get(name) for name in names]
            while values and is_absent(values[-1]):
                values.pop()
            return values or None
    return None


def _spans(row: Row) -> list[tuple[float, float]]:
    start, end = row.get("start_s"), row.get("end_s")
    if is_absent(start) and is_absent(end):
        return []
    if is_absent(start) or is_absent(end):
        raise ValueError(f"expected both 'start_s' and 'end_s', got {start!r} and {end!r}.")
    return [(_seconds(start, "start_s"), _seconds(end, "end_s"))]


def _seconds(value: object, column: str) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type] # raises if not a number
    except (TypeError, ValueError, OverflowError):
        seconds = float("nan")
    if isinstance(value, bool) or not abs(seconds) < 1e6:
        raise ValueError(f"expected seconds in {column!r}, got {value!r:.60}.")
    return seconds


def _facts(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(
        (key, value)
        for key, value in row.items()
        if key not in _NO_FACTS and is_clean_text(value) and 0 < len(value) <= _LONGEST_FACT
    )


def _given_lines(entries: Sequence[object], video: str, rejects: Rejects) -> tuple[TimedText, ...]:
    found = []
    for entry in entries:
        try:
            found.append(_given_line(entry))
        except (ValueError, TypeError):
            rejects.side_file(
                f"subtitles of {video}", f"expected {{start, end, text}}, got {entry!r:.60}"
            )
    return tuple(sorted(found, key=lambda line: (line.start_s, line.end_s)))


def _given_line(entry: object) -> TimedText:
    if not isinstance(entry, Mapping):
        raise TypeError
    text = entry.get("text")
    start, end = entry.get("start", entry.get("start_s")), entry.get("end", entry.get("end_s"))
    start_s = _seconds(start, "start")
    end_s = start_s if end is None else _seconds(end, "end")
    if not is_clean_text(text) or not text.strip() or start_s < 0:
        raise ValueError
    return TimedText(text.strip(), start_s, max(start_s, end_s))


def _is_path(text: str) -> bool:
    return "\n" not in text and len(text) < 1000 and text.lower().endswith(SUFFIXES)


def _whole(value: Any) -> Any:
    """12.0 as 12: pandas reads whole numbers as floats if a column has empty cells."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shortened(row: Row) -> str:
    return ", ".join(f"{key}={value!r:.40}" for key, value in list(row.items())[:8])
