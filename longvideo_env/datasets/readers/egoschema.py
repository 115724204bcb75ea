"""EgoSchema: videos of three minutes without speech, with an index of captions instead.

    questions.json        [{"q_uid", "question", "option 0" .. "option 4"}]
    subset_answers.json   {q_uid: index of the right option}; these questions are the split val
    captions.json         {q_uid: ["a person opens a drawer", ...]}, spread evenly over the video,
                          or {q_uid: [{"start_s", "end_s", "text"}]}; optional, and not published
    or the hub's GENERATION/test-*.parquet (or MC/) for test, Subset/test-*.parquet for val:
                          `video_idx` is q_uid, `option` a list, `answer` an index

The split test has all 5,031 questions. 500 of them have a published answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longvideo_env.datasets.footage import Benchmark, Footage, Item
from longvideo_env.datasets.jsonfile import is_clean_text, read_object
from longvideo_env.datasets.own.answer_keys import answer_index, read_options
from longvideo_env.datasets.own.table_files import Row, read_table
from longvideo_env.datasets.readers.common import first_of, split_file
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.texts import is_time
from longvideo_env.errors import DataError
from longvideo_env.media.subtitles import plain_text
from longvideo_env.schema import TimedText

FILES = {
    "val": ("questions", "Subset/test-*", "subset"),
    "test": ("questions", "GENERATION/test-*", "MC/test-*", "test-*"),
}
COLUMNS = {"qid": "q_uid", "options": "option 0 .. option 4", "video": "q_uid"}
LENGTH_S = 180.0
CLIP_S = 30.0


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split: `test` is all questions, `val` those with a published answer."""
    path = split_file(folder, FILES, split)
    answers = _side_object(folder / "subset_answers.json", rejects)
    captions = _side_object(folder / "captions.json", rejects)
    items, footage = [], {}
    columns = dict(COLUMNS)
    for number, row in read_table(path, rejects):
        qid = str(first_of(row, "q_uid", "video_idx"))
        answer = answers.get(qid, row.get("answer"))
        # The repository keeps answers in a separate file. The hub has a table of the subset.
        if split == "val" and "q_uid" in row and qid not in answers:
            continue
        if "option" in row:
            columns.update(qid="video_idx", options="option", video="video_idx")
        items.append(
            Item(number, qid, row.get("question"), _options(row), answer_index(answer), qid)
        )
        footage[qid] = Footage(
            captions=_captions(captions.get(qid), qid, rejects), length_s=LENGTH_S
        )
    return Benchmark(path, items, footage, CLIP_S, columns)


def _options(row: Row) -> list[Any]:
    if "option" in row:
        return read_options(row["option"])
    return [row[key] for key in sorted(key for key in row if key.startswith("option "))]


def _side_object(path: Path, rejects: Rejects) -> Mapping[str, Any]:
    """A side file as an object. Empty if it is missing or cannot be read."""
    if not path.is_file():
        return {}
    try:
        return read_object(path)
    except DataError as error:
        rejects.side_file(path, error)
        return {}


def _captions(value: object, qid: str, rejects: Rejects) -> tuple[TimedText, ...]:
    entries = value if isinstance(value, list) else []
    step = LENGTH_S / max(len(entries), 1)
    lines = []
    for i, entry in enumerate(entries):
        found: tuple[Any, Any, Any] = (entry, i * step, (i + 1) * step)
        if isinstance(entry, dict):
            found = (entry.get("text"), entry.get("start_s"), entry.get("end_s"))
        text, start, end = found
        if not is_clean_text(text) or start is None or not is_time(start) or not is_time(end):
            rejects.side_file(
                f"captions of {qid}",
                f"expected texts or {{start_s, end_s, text}}, got {entry!r:.60}",
            )
            return ()
        if words := plain_text(text):
            lines.append(TimedText(words, float(start), float(start if end is None else end)))
    return tuple(lines)
