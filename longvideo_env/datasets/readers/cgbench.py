"""CG-Bench: questions with clue intervals, which become the gold spans.

cgbench.json, cgbench_mini.json, cgbench_hard.json, or cg-bench-mini/*.parquet
    [{"qid", "video_uid", "question", "choices", "right_answer": "A",
      "clue_intervals": [[start_s, end_s]], "duration", "domain", "sub_category"}]
cg_subtitles/<video_uid>.srt, or subtitles/, or either as a zip; optional
"""

from __future__ import annotations

from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Item, read_spans
from longvideo_env.datasets.own.answer_keys import answer_index, read_options
from longvideo_env.datasets.own.table_files import read_table
from longvideo_env.datasets.readers.common import facts_of, footage_of, seconds, split_file
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import InvalidRowError

FILES = {
    "test": ("cgbench", "cg-bench/*", "cgbench/*"),
    "hard": ("cgbench_hard", "cg-bench-hard/*"),
    "mini": ("cgbench_mini", "cg-bench-mini/*", "cgbench_mini/*"),
}
COLUMNS = {
    "options": "choices",
    "answer": "right_answer",
    "video": "video_uid",
    "span": "clue_intervals",
}


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split."""
    path = split_file(folder, FILES, split)
    items, lengths = [], {}
    for number, row in read_table(path, rejects):
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
                read_options(row.get("choices")),
                answer_index(row.get("right_answer")),
                video,
                spans,
                row.get("sub_category"),
                facts_of(row, "domain", "sub_category"),
            )
        )
    names = ("cg_subtitles", "subtitles")
    return Benchmark(
        path, items, footage_of(folder, names, lengths.items(), rejects), columns=COLUMNS
    )
