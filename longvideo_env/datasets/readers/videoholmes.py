"""Video-Holmes: short suspense films, without subtitles.

test_Video-Holmes.json, train_Video-Holmes.json
    [{"video ID", "Question ID", "Question Type": "SR", "Question", "Options": {"A": ...},
      "Answer": "A"}]

Ids count the questions of the file or of the video. If two rows share an id, the video's name is
put before it.
"""

from __future__ import annotations

from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Item
from longvideo_env.datasets.own.answer_keys import answer_index, read_options
from longvideo_env.datasets.own.table_files import read_table
from longvideo_env.datasets.readers.common import facts_of, film_name, first_of, split_file
from longvideo_env.datasets.rejects import Rejects

FILES = {
    split: (f"{split}_Video-Holmes", f"*/{split}_Video-Holmes", f"data/{split}-*", f"{split}-*")
    for split in ("test", "train")
}
COLUMNS = {
    "qid": "Question ID",
    "question": "Question",
    "options": "Options",
    "answer": "Answer",
    "video": "video ID",
}


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split."""
    path = split_file(folder, FILES, split)
    rows = list(read_table(path, rejects))
    ids = [first_of(row, "Question ID") or number for number, row in rows]
    if len(set(map(str, ids))) < len(ids):
        ids = [
            f"{film_name(row.get('video ID', ''))}_{i}"
            for i, (_, row) in zip(ids, rows, strict=True)
        ]
    items = [
        Item(
            number,
            qid,
            row.get("Question"),
            read_options(row.get("Options")),
            answer_index(row.get("Answer")),
            film_name(row.get("video ID", "")),
            show=str(row.get("Question Type")),
            facts=facts_of(row, "Question Type"),
        )
        for qid, (number, row) in zip(ids, rows, strict=True)
    ]
    return Benchmark(path, items, columns=COLUMNS)
