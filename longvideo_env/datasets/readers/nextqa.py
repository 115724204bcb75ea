"""NExT-QA: short films of daily life, without speech.

    train.csv, val.csv, test.csv, also under dataset/nextqa/
        video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4
    or the hub's MC/test-*.parquet
    open-ended: the files of NExT-OE, or OE/validation-*.parquet: `answer` in words, no a0 ..

Question ids are unique only within a video, so `VIDEO_QID` is used as the id.
"""

from __future__ import annotations

from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Item
from longvideo_env.datasets.own.answer_keys import answer_index
from longvideo_env.datasets.own.table_files import Row, read_table
from longvideo_env.datasets.readers.common import facts_of, film_name, split_file
from longvideo_env.datasets.rejects import Rejects

_FOLDERS = ("", "nextqa/", "dataset/nextqa/", "nextqa_")
FILES = {
    split: tuple(folder + split for folder in _FOLDERS) + hub
    for split, hub in (
        ("train", ()),
        ("val", ("OE/validation-*", "data/validation-*")),
        ("test", ("MC/test-*", "OE/test-*", "data/test-*")),
    )
}
COLUMNS = {"options": "a0 .. a4"}
KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split."""
    path = split_file(folder, FILES, split)
    items = [_item(number, row) for number, row in read_table(path, rejects)]
    return Benchmark(path, items, columns=COLUMNS)


def _item(number: int, row: Row) -> Item:
    video, kind = film_name(row.get("video", "")), str(row.get("type", ""))
    options = [row[name] for name in ("a0", "a1", "a2", "a3", "a4") if name in row]
    answer = row.get("answer")
    return Item(
        number,
        f"{video}_{row.get('qid', number)}",
        row.get("question"),
        options or None,
        answer_index(answer) if options else answer,
        video,
        show=KINDS.get(kind[:1]),
        facts=(*facts_of(row, "type"), ("kind", KINDS.get(kind[:1], "other"))),
    )
