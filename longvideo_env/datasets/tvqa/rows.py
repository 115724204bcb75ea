"""Reads the question rows of LongTVQA+, LongTVQA, TVQA+ and TVQA into one form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

from longvideo_env.choices import equal_options, name_labels
from longvideo_env.datasets.jsonfile import Rows, is_clean_text
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.errors import (
    AnswerOutOfRangeError,
    DuplicateQidError,
    ForeignClipError,
    InvalidRowError,
    MissingOptionError,
)
from longvideo_env.ids import is_video_id, parse_clip_id
from longvideo_env.schema import MAX_OPTIONS, MIN_OPTIONS, Boxes, Gold, Qid, Question, Task

_OPTION_KEY = re.compile(r"a[0-9]+\Z")
_ANSWER = re.compile(r"a?([0-9]{1,3})\Z")
_NUMBER = r"[+-]?(?:nan|[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)"
_SPAN = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\Z", re.IGNORECASE)

_KEYS = ("qid", "q", "answer", "ts", "episode_name", "occur_clip", "show_name", "bbox")
_SAME = {"answer_idx": "answer", "vid_name": "occur_clip"}

_E = TypeVar("_E", bound=InvalidRowError)


@dataclass(frozen=True, slots=True)
class RowPlace:
    """File and number of a row, for error messages."""

    file: Path
    row: int
    qid: Qid | None = None

    def error(self, kind: type[_E], problem: str) -> _E:
        """An error of the given type for this row."""
        head = "" if self.qid is None else f"question {self.qid}: "
        return kind(head + problem, self.file, self.row, MEND_ROW)


def read_tasks(file: Path, rows: Rows, rejects: Rejects) -> list[tuple[int, Task]]:
    """Turn rows into tasks, with their positions.

    Ids are compared as text, as `Dataset.task` does: 7 and "7" are duplicates, and the first
    one stays.
    """
    tasks: list[tuple[int, Task]] = []
    seen: dict[str, int] = {}
    for number, row in rows:
        try:
            task = read_task(row, RowPlace(file, number))
            first = seen.setdefault(str(task.qid), number)
            if first != number:
                raise RowPlace(file, number, task.qid).error(
                    DuplicateQidError,
                    f"expected a unique qid, but rows {first} and {number} share it.",
                )
        except InvalidRowError as error:
            rejects.add(error, error.__cause__)
        else:
            tasks.append((number, task))
    return tasks


def read_task(row: object, place: RowPlace) -> Task:
    """Turn one row into a task.

    If a row has both, `answer` is used before `answer_idx`, and `occur_clip` before `vid_name`.

    Raises:
        InvalidRowError: Or a subclass: the row is invalid.
    """
    if not isinstance(row, dict):
        raise place.error(
            InvalidRowError, f"expected an object with a question, got {_shown(row)}."
        )
    qid = _read_qid(row, place)
    place = RowPlace(place.file, place.row, qid)
    if fault := _misspelt(tuple(row)):
        raise place.error(InvalidRowError, fault)
    text = row.get("q")
    if not is_clean_text(text) or not text.strip():
        raise place.error(InvalidRowError, f"expected a question text in 'q', got {_shown(text)}.")
    options = _read_options(row, place)
    video_id, clip_id = _read_video(row, place)
    show = row.get("show_name")
    question = Question(
        qid=qid,
        text=text.strip(),
        options=options,
        video_id=video_id,
        show=show if is_clean_text(show) else None,
    )
    answer = _read_answer(row, len(options), place)
    same = next((group for group in equal_options(options) if answer in group), ())
    gold = Gold(
        answer=answer,
        clip_id=clip_id,
        span=_read_span(row.get("ts"), place),
        boxes=_read_boxes(row.get("bbox"), place),
        twins=tuple(twin for twin in same if twin != answer),
    )
    return Task(question, gold)


@lru_cache(maxsize=256)
def _misspelt(keys: tuple[object, ...]) -> str | None:
    """A message if an unknown key looks like a missing one; otherwise None."""
    there = {_SAME.get(str(key), str(key)) for key in keys}
    missing = [key for key in _KEYS if key not in there]
    for key in keys:
        name = str(key)
        if name not in _KEYS and name not in _SAME and not _OPTION_KEY.match(name):
            near = get_close_matches(name.strip().lower(), missing, n=1, cutoff=0.75)
            if near:
                return f"expected the key {near[0]!r}, got {name!r:.60}."
    return None


def clip_named_by(row: object) -> str | None:
    """The valid clip id that a row names, if it names one. Never raises."""
    if not isinstance(row, dict):
        return None
    clip_id = _first(row, "occur_clip", "vid_name")
    return clip_id if isinstance(clip_id, str) and parse_clip_id(clip_id) else None


def no_clip_error(file: Path, row: int, qid: Qid | None, video_id: str) -> InvalidRowError:
    """The error of a row whose video has no clip."""
    return RowPlace(file, row, qid).error(
        InvalidRowError,
        f"expected a video with clips, but no subtitles, captions or questions name "
        f"a clip of {video_id!r}.",
    )


def _read_qid(row: Mapping[str, object], place: RowPlace) -> Qid:
    qid = row.get("qid")
    if isinstance(qid, int) and not isinstance(qid, bool):
        return qid
    if isinstance(qid, str) and qid.strip() and is_clean_text(qid):
        return qid.strip()
    raise place.error(
        InvalidRowError, f"expected a whole number or a text in 'qid', got {_shown(qid)}."
    )


def _read_options(row: Mapping[str, object], place: RowPlace) -> tuple[str, ...]:
    keys = {key for key in row if _OPTION_KEY.match(key)}
    expected = [f"a{i}" for i in range(max(len(keys), MIN_OPTIONS))]
    if len(keys) > MAX_OPTIONS or not keys.issuperset(expected):
        found = ", ".join(sorted(keys)) or "none"
        raise place.error(
            MissingOptionError,
            f"expected {MIN_OPTIONS} to {MAX_OPTIONS} options a0, a1, ... without a gap, "
            f"got {found}.",
        )
    options = []
    for key in expected:
        value = row[key]
        if not is_clean_text(value) or not value.strip():
            raise place.error(
                MissingOptionError, f"expected a text for option {key!r}, got {_shown(value)}."
            )
        options.append(value.strip())
    return name_labels(options)


def _read_answer(row: Mapping[str, object], n_options: int, place: RowPlace) -> int | None:
    value = _first(row, "answer", "answer_idx")
    if value is None:
        return None
    index = -1
    if isinstance(value, int) and not isinstance(value, bool):
        index = value
    elif isinstance(value, str) and (match := _ANSWER.match(value.strip())):
        index = int(match[1])
    if not 0 <= index < n_options:
        raise place.error(
            AnswerOutOfRangeError,
            f"expected an answer from 0 to {n_options - 1}, as a number or as text such as 'a0', "
            f"got {_shown(value)}.",
        )
    return index


def _read_video(row: Mapping[str, object], place: RowPlace) -> tuple[str, str | None]:
    """The ids of a row's video and, if named, of the clip with the answer."""
    clip_id, video_id = _first(row, "occur_clip", "vid_name"), row.get("episode_name")
    if video_id is not None and not (isinstance(video_id, str) and is_video_id(video_id)):
        raise place.error(
            InvalidRowError,
            f"expected a video id such as castle_s01e01 in 'episode_name', got {_shown(video_id)}.",
        )
    if clip_id is None:
        if video_id is None:
            raise place.error(
                InvalidRowError,
                "expected a clip in 'occur_clip' or 'vid_name', or a video in 'episode_name'.",
            )
        return video_id, None
    name = parse_clip_id(clip_id) if isinstance(clip_id, str) else None
    if name is None:
        raise place.error(
            InvalidRowError,
            f"expected a clip id such as castle_s01e01_seg02_clip_00, got {_shown(clip_id)}.",
        )
    if video_id is not None and name.video_id != video_id:
        raise place.error(
            ForeignClipError,
            f"expected a clip of the question's video {video_id!r}, got {clip_id!r}, a clip of "
            f"{name.video_id!r}.",
        )
    return name.video_id, cast("str", clip_id)


def _read_span(value: object, place: RowPlace) -> tuple[float, float] | None:
    """The span of a row. None if it is unknown: absent, empty, NaN or infinite.

    A span of length 0 is kept: TVQA has one. A negative start, an end before the start, and a
    value of another shape are errors.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    ends: list[float | None] = []
    if isinstance(value, str):
        if value.strip().lower() in ("", "nan"):
            return None
        match = _SPAN.match(value)
        ends = [float(match[1]), float(match[2])] if match else []
    elif isinstance(value, list):
        ends = [_seconds(end) for end in value]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        raise place.error(
            InvalidRowError,
            "expected 'ts' as [start, end] or as text 'start-end', in seconds, got "
            f"{_shown(value)}.",
        )
    start_s, end_s = ends[0], ends[1]
    if not math.isfinite(start_s) or not math.isfinite(end_s):
        return None
    if 0 <= start_s <= end_s:
        return start_s, end_s
    raise place.error(
        InvalidRowError,
        f"expected 'ts' with a start from 0 on and an end after it, got {_shown(value)}.",
    )


def _seconds(value: object) -> float | None:
    """A JSON number as seconds. NaN for null, None if it is not a number."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _read_boxes(value: object, place: RowPlace) -> Boxes | None:
    if value is None or isinstance(value, dict):
        return cast("Boxes | None", value)
    raise place.error(
        InvalidRowError, f"expected 'bbox' as an object of frame numbers, got {_shown(value)}."
    )


def _first(row: Mapping[str, object], *keys: str) -> object:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{value!r:.60}"
