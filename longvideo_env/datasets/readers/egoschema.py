"""Files like EgoSchema's: videos without speech, and an index of captions instead.

    questions.json        [{"q_uid", "question", "option 0" .. "option 4"}]
    subset_answers.json   {q_uid: index of the right option}; these questions are the split val
    captions.json         {q_uid: ["a person opens a drawer", ...]}, spread evenly over the video,
                          or {q_uid: [{"start_s", "end_s", "text"}]}

Each question has a video of its own, of three minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longvideo_env.datasets.footage import Benchmark, Footage, Item
from longvideo_env.datasets.jsonfile import is_clean_text, read_object
from longvideo_env.datasets.readers.common import object_rows, split_file
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.datasets.tvqa.texts import is_time
from longvideo_env.errors import InvalidRowError
from longvideo_env.media.subtitles import plain_text
from longvideo_env.schema import TimedText

FILES = {"val": "questions.json", "test": "questions.json"}
LENGTH_S = 180.0
CLIP_S = 30.0


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split: `test` is all questions, `val` those with a published answer."""
    path = split_file(folder, FILES, split)
    answers_file, captions_file = folder / "subset_answers.json", folder / "captions.json"
    answers = read_object(answers_file) if answers_file.is_file() else {}
    captions = read_object(captions_file) if captions_file.is_file() else {}
    items, footage = [], {}
    for number, row in object_rows(path, rejects):
        qid = str(row.get("q_uid"))
        if split == "val" and qid not in answers:
            continue
        keys = sorted(key for key in row if key.startswith("option "))
        options = [row[key] for key in keys]
        items.append(Item(number, qid, row.get("question"), options, answers.get(qid), qid))
        try:
            footage[qid] = Footage(captions=_captions(captions.get(qid), captions_file, qid),
                                   length_s=LENGTH_S)  # fmt: skip
        except InvalidRowError as error:
            rejects.add(error)
    return Benchmark(path, items, footage, CLIP_S)


def _captions(value: object, file: Path, qid: str) -> tuple[TimedText, ...]:
    entries = value if isinstance(value, list) else []
    step = LENGTH_S / max(len(entries), 1)
    lines = []
    for i, entry in enumerate(entries):
        found: tuple[Any, Any, Any] = (entry, i * step, (i + 1) * step)
        if isinstance(entry, dict):
            found = (entry.get("text"), entry.get("start_s"), entry.get("end_s"))
        text, start, end = found
        if not is_clean_text(text) or start is None or not is_time(start) or not is_time(end):
            raise InvalidRowError(
                f"expected captions as texts or {{start_s, end_s, text}}, got {entry!r:.60}.",
                file,
                qid,
                MEND_ROW,
            )
        if words := plain_text(text):
            lines.append(TimedText(words, float(start), float(start if end is None else end)))
    return tuple(lines)
