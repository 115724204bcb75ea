"""LongVideoBench, as published.

    lvb_val.json, lvb_test_wo_gt.json
        [{"id", "video_id", "question", "candidates", "correct_choice", "duration",
          "subtitle_path", "starting_timestamp_for_subtitles", "question_category"}]
    subtitles/<subtitle_path>
        [{"start": "00:00:01.000", "end": "00:00:03.500", "line"}]
        or [{"timestamp": [1, 3.5], "text"}]

Options are two to five. The test split has no answers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from longvideo_env.datasets.footage import Benchmark, Footage, Item
from longvideo_env.datasets.jsonfile import is_clean_text, read_rows
from longvideo_env.datasets.readers.common import is_file_name, object_rows, seconds, split_file
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.media.subtitles import plain_text
from longvideo_env.schema import TimedText

FILES = {"val": "lvb_val.json", "test": "lvb_test_wo_gt.json"}
_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)\Z")


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split."""
    path = split_file(folder, FILES, split)
    items, footage = [], {}
    for number, row in object_rows(path, rejects):
        video = str(row.get("video_id"))
        if video not in footage:
            footage[video] = _footage(folder / "subtitles", row)
        candidates = row.get("candidates")
        items.append(
            Item(
                number,
                row.get("id", number),
                row.get("question"),
                candidates if isinstance(candidates, list) else [],
                row.get("correct_choice"),
                video,
                show=row.get("question_category"),
            )
        )
    return Benchmark(path, items, footage)


def _footage(folder: Path, row: dict[str, Any]) -> Footage:
    length_s = seconds(row.get("duration"))
    name = row.get("subtitle_path")
    if not is_file_name(name) or not (folder / str(name)).is_file():
        return Footage(length_s=length_s)
    offset = seconds(row.get("starting_timestamp_for_subtitles")) or 0.0
    lines = []
    for _, entry in read_rows(folder / str(name), Rejects(skip_invalid=True)):
        line = _line(entry, offset, length_s)
        if line is not None:
            lines.append(line)
    return Footage(tuple(lines), (), length_s)


def _line(entry: object, offset_s: float, length_s: float | None) -> TimedText | None:
    """One line in the video's time; None for what lies outside it or is no line."""
    if not isinstance(entry, dict):
        return None
    stamp = entry.get("timestamp")
    times = stamp if isinstance(stamp, list) else [entry.get("start"), entry.get("end")]
    text = entry.get("text", entry.get("line"))
    start = _seconds(times[0]) if times else None
    if start is None or not is_clean_text(text) or not (words := plain_text(text)):
        return None
    end = _seconds(times[1]) if len(times) > 1 else None
    start, end = start - offset_s, (start if end is None else end) - offset_s
    if end < 0 or (length_s is not None and start >= length_s):
        return None
    return TimedText(words, max(start, 0.0), max(end, start, 0.0))


def _seconds(value: object) -> float | None:
    if type(value) in (int, float):
        return float(value) if 0 <= value < 1e6 else None  # type: ignore[arg-type, operator]
    match = _TIME.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3])
