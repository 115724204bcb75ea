"""LongVideoBench, as published and as on the hub.

    lvb_val.json, lvb_test_wo_gt.json
        [{"id", "video_id", "video_path", "question", "candidates", "correct_choice", "duration",
          "duration_group", "subtitle_path", "starting_timestamp_for_subtitles",
          "question_category"}]
    or validation-*.parquet, test-*.parquet with `option0` .. `option4`, "N/A" where there is none
    subtitles/<subtitle_path>, or subtitles.tar
        [{"start": "00:00:01.000", "end": "00:00:03.500", "line"}]
        or [{"timestamp": [1, 3.5], "text"}]

Options are two to five. The test split has no answers.
"""

from __future__ import annotations

import re
from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Footage, Item
from longvideo_env.datasets.jsonfile import is_clean_text, read_rows
from longvideo_env.datasets.own.answer_keys import is_absent, read_options
from longvideo_env.datasets.own.sidefiles import SideFiles
from longvideo_env.datasets.own.table_files import Row, read_table
from longvideo_env.datasets.readers.common import (
    facts_of,
    film_name,
    first_of,
    seconds,
    split_file,
)
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import DataError
from longvideo_env.media.subtitles import plain_text
from longvideo_env.schema import TimedText

FILES = {
    "val": ("lvb_val", "validation-*", "data/validation-*", "LongVideoBench"),
    "test": ("lvb_test_wo_gt", "test-*", "data/test-*"),
}
COLUMNS = {"qid": "id", "options": "candidates", "answer": "correct_choice", "video": "video_id"}
_TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)\Z")


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split."""
    path = split_file(folder, FILES, split)
    files = SideFiles(folder, ("subtitles",), rejects)
    items, footage, columns = [], {}, dict(COLUMNS)
    for number, row in read_table(path, rejects):
        video = film_name(first_of(row, "video_path", "video_id"))
        if video not in footage:
            footage[video] = _footage(files, row, rejects)
        if "candidates" not in row:
            columns["options"] = "option0 .. option4"
        answer = row.get("correct_choice")
        if isinstance(answer, str) and answer.strip().lstrip("-").isdigit():
            answer = int(answer)
        hidden = isinstance(answer, int | float) and answer < 0
        items.append(
            Item(
                number,
                first_of(row, "id") or f"{video}_{number}",
                row.get("question"),
                _options(row),
                None if hidden else answer,
                video,
                show=str(row.get("question_category")),
                facts=facts_of(row, "duration_group", "question_category", "topic_category"),
            )
        )
    return Benchmark(path, items, footage, columns=columns)


def _options(row: Row) -> list[object]:
    if "candidates" in row:
        return read_options(row["candidates"])
    values = [row.get(f"option{i}") for i in range(5)]
    while values and (is_absent(values[-1]) or str(values[-1]).strip() == "N/A"):
        values.pop()
    return values


def _footage(files: SideFiles, row: Row, rejects: Rejects) -> Footage:
    length_s = seconds(row.get("duration"))
    name = str(row.get("subtitle_path"))
    offset = seconds(row.get("starting_timestamp_for_subtitles")) or 0.0
    with files.open(name) as path:
        if path is None:
            return Footage(length_s=length_s)
        if path.suffix != ".json":
            return Footage(files.lines(path.stem), (), length_s)
        try:
            entries = read_rows(path, Rejects(skip_invalid=True))
        except DataError as error:
            # An empty array is a video without speech.
            if path.read_bytes().strip() != b"[]":
                rejects.side_file(name, error)
            return Footage(length_s=length_s)
    lines = [_line(entry, offset, length_s) for _, entry in entries]
    return Footage(tuple(line for line in lines if line is not None), (), length_s)


def _line(entry: object, offset_s: float, length_s: float | None) -> TimedText | None:
    """One line, in seconds of the video. None if it is outside the video or not a line."""
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
