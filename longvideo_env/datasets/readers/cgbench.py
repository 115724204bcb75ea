"""CG-Bench: questions with clue intervals, which become the gold spans.

cgbench.json                [{"qid", "video_uid", "question", "choices", "right_answer": "A",
                              "clue_intervals": [[start_s, end_s]], "duration", "sub_category"}]
subtitles/<video_uid>.srt   optional
"""

from __future__ import annotations

from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Item, answer_index, read_spans, without_labels
from longvideo_env.datasets.readers.common import object_rows, seconds, split_file, srt_footage
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import InvalidRowError

FILES = {"test": "cgbench.json", "mini": "cgbench_mini.json"}


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split."""
    path = split_file(folder, FILES, split)
    items, lengths = [], {}
    for number, row in object_rows(path, rejects):
        try:
            spans = read_spans(row.get("clue_intervals"), path, number)
        except InvalidRowError as error:
            rejects.add(error)
            continue
        video = str(row.get("video_uid"))
        lengths[video] = seconds(row.get("duration"))
        items.append(
            Item(
                number,
                row.get("qid", number),
                row.get("question"),
                without_labels(row.get("choices")),
                answer_index(row.get("right_answer")),
                video,
                spans,
                row.get("sub_category"),
            )
        )
    return Benchmark(path, items, srt_footage(folder / "subtitles", lengths.items()))
