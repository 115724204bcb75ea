r"""LVBench: films of an hour or so, without subtitles.

    video_info.meta.jsonl, also under data/
        {"key", "qa": [{"uid", "question": "Who ...?\n(A) ...\n(B) ...", "answer": "D",
                        "question_type": ["event understanding"], "time_reference": "00:15-00:19"}],
         "video_info": {"duration_minutes": 60}}
    or a table with one question a row: `video_path`, `question`, `options`, `answer`

`time_reference` becomes the gold span. A question counts in each of its types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Footage, Item
from longvideo_env.datasets.own.answer_keys import answer_index, read_options
from longvideo_env.datasets.own.table_files import Row, read_table
from longvideo_env.datasets.readers.common import (
    film_name,
    first_of,
    seconds,
    split_file,
    split_question,
)
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.errors import InvalidRowError

FILES = {
    "test": ("video_info.meta", "data/video_info.meta", "lvbench", "LVBench", "data/train-*",
             "train-*", "data/test-*", "test-*")
}  # fmt: skip
COLUMNS = {"qid": "uid", "options": "question", "video": "key", "span": "time_reference"}
_TIME = r"((?:\d{1,2}:)?\d{1,3}:\d{2})"
_SPAN = re.compile(rf"\s*{_TIME}\s*-\s*{_TIME}\s*\Z")


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read the one split, `test`."""
    path = split_file(folder, FILES, split)
    items: list[Item] = []
    footage: dict[str, Footage] = {}
    for number, row in read_table(path, rejects):
        video = film_name(first_of(row, "key", "video_path", "video"))
        info = row.get("video_info")
        minutes = seconds(info.get("duration_minutes")) if isinstance(info, dict) else None
        # Lengths are rounded to whole minutes, so a span may run into the next minute.
        footage.setdefault(video, Footage(length_s=minutes and (minutes + 1) * 60))
        for asked in _asked(row, path, number, rejects):
            items.append(_item(number, asked, video))
    return Benchmark(path, items, footage, columns=COLUMNS)


def _asked(row: Row, path: Path, number: int, rejects: Rejects) -> Iterator[Row]:
    asked = row.get("qa", [row])
    if isinstance(asked, list) and all(isinstance(one, dict) for one in asked):
        yield from asked
    else:
        problem = f"expected a list of questions in 'qa', got {asked!r:.60}."
        rejects.add(InvalidRowError(problem, path, number, MEND_ROW))


def _item(number: int, row: Row, video: str) -> Item:
    question, options = split_question(row.get("question"))
    found = read_options(row["options"]) if row.get("options") is not None else list(options)
    kinds = row.get("question_type")
    types = [str(kind) for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind]
    span = _SPAN.match(str(row.get("time_reference")))
    spans = [(_seconds(span[1]), _seconds(span[2]))] if span else []
    return Item(
        number,
        first_of(row, "uid", "qid", "question_id") or f"{video}_{number}",
        question,
        found,
        answer_index(row.get("answer")),
        video,
        [(start, end) for start, end in spans if start <= end],
        show=types[0] if types else None,
        facts=tuple(("question_type", kind) for kind in types),
    )


def _seconds(time: str) -> float:
    total = 0
    for part in time.split(":"):
        total = total * 60 + int(part)
    return float(total)
