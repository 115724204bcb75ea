"""Video-MME, with its subtitles, as on the hub or as VLMEvalKit keeps it.

    videomme/test-*.parquet, or the same rows in videomme.json
        {"videoID", "question_id", "question", "options", "answer": "C", "duration": "long",
         "domain", "sub_category", "task_type"}
    or Video-MME.tsv (VLMEvalKit: `video`, `candidates`, no ids of questions)
    subtitle/<videoID>.srt, or subtitle.zip as published

156 of the 900 videos have no subtitles. The benchmark shows only the subtitles at the times of the
sampled frames. Here a clip is shown with all of its subtitles.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Item
from longvideo_env.datasets.own.answer_keys import answer_index, read_options
from longvideo_env.datasets.own.table_files import read_table
from longvideo_env.datasets.readers.common import (
    column_of,
    facts_of,
    first_of,
    footage_of,
    split_file,
)
from longvideo_env.datasets.rejects import Rejects

FILES = {"test": ("videomme", "Video-MME", "videomme/test-*", "data/test-*", "test-*")}
COLUMNS = {"qid": "question_id", "video": "videoID"}
_FACTS = ("duration", "domain", "sub_category", "task_type")


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read the one split, `test`."""
    path = split_file(folder, FILES, split)
    rows = list(read_table(path, rejects))
    videos = dict.fromkeys(str(first_of(row, "videoID", "video")) for _, row in rows)
    footage = footage_of(
        folder, ("subtitle", "subtitles"), ((name, None) for name in videos), rejects
    )
    # VLMEvalKit drops the ids. They are rebuilt by counting videos and their questions.
    numbers = {video: i for i, video in enumerate(videos, start=1)}
    asked: Counter[str] = Counter()
    items, columns = [], dict(COLUMNS)
    for number, row in rows:
        video = str(first_of(row, "videoID", "video"))
        asked[video] += 1
        columns["options"] = column_of(row, "options", "candidates")
        spoken = "yes" if footage[video].subtitles else "no"
        items.append(
            Item(
                number,
                first_of(row, "question_id") or f"{numbers[video]:03d}-{asked[video]}",
                row.get("question"),
                read_options(row.get(columns["options"])),
                answer_index(row.get("answer")),
                video,
                show=str(row.get("duration")),
                facts=(*facts_of(row, *_FACTS), ("subtitles", spoken)),
            )
        )
    return Benchmark(path, items, footage, columns=columns)
