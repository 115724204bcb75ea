"""Video-MME, with its subtitles.

    videomme.json               rows of its table: {"videoID", "question_id", "question", "options",
                                 "answer": "C", "duration": "long", "task_type"}
    subtitle/<videoID>.srt      as published

Its table is published as Parquet; `pandas.read_parquet(FILE).to_json("videomme.json",
orient="records")` makes the file.
"""

from __future__ import annotations

from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Item, answer_index, without_labels
from longvideo_env.datasets.readers.common import object_rows, split_file, srt_footage
from longvideo_env.datasets.rejects import Rejects

FILES = {"test": "videomme.json"}


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read the one split, `test`."""
    path = split_file(folder, FILES, split)
    items = [
        Item(
            number,
            row.get("question_id", number),
            row.get("question"),
            without_labels(row.get("options")),
            answer_index(row.get("answer")),
            str(row.get("videoID")),
            show=row.get("duration"),
        )
        for number, row in object_rows(path, rejects)
    ]
    names = ((name, None) for name in dict.fromkeys(item.video for item in items))
    return Benchmark(path, items, srt_footage(folder / "subtitle", names))
