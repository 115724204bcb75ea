"""MLVU: one file a task; the answer is the option's text.

    json/1_plotQA.json .. json/7_topic_reasoning.json, also under MLVU/json/ or in the folder itself
        [{"video", "duration", "question", "candidates", "answer", "question_type"}]
    or a table with `video_name`, `task_type`, and the options in the question (the hub's copies)
    json/8_sub_scene.json, json/9_summary.json: open-ended, the split generation
    test_question.json: the test split, whose answers are hidden

MLVU reports the mean over its task types, not over its questions.
"""

from __future__ import annotations

from collections import Counter
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
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import DatasetNotFoundError

TASKS = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
OPEN = ("sub_scene", "summary")
FILES = {
    "dev": ("data/test-*", "test-*", "MLVU_MCQ", "mlvu_dev"),
    "test": ("test_question", "test_multi_choice_tasks", "*/test_question", "mlvu_test"),
    "generation": ("MLVU_OpenEnded",),
}
COLUMNS = {"options": "candidates"}
_FOLDERS = ("", "json/", "MLVU/json/")


def read(folder: Path, split: str, rejects: Rejects) -> Benchmark:
    """Read a split: dev (the default), test or generation."""
    split = split or "dev"
    paths = _task_files(folder, {"dev": TASKS, "generation": OPEN}.get(split, ()))
    try:
        paths = paths or [split_file(folder, FILES, split)]
    except DatasetNotFoundError as error:
        if split == "test" or split not in FILES:
            raise
        raise DatasetNotFoundError(
            "expected one file a task, such as json/1_plotQA.json.", folder, None, error.mend
        ) from error
    items: list[Item] = []
    footage: dict[str, Footage] = {}
    for path in paths:
        for item, video, length_s in _items(path, rejects):
            items.append(item)
            footage.setdefault(video, Footage(length_s=length_s))
    return Benchmark(paths[0], items, footage, columns=COLUMNS)


def _task_files(folder: Path, tasks: tuple[str, ...]) -> list[Path]:
    found = []
    for task in tasks:
        for prefix in _FOLDERS:
            paths = sorted((folder / prefix).glob(f"*{task}.json"))
            if paths:
                found.append(paths[0])
                break
    return found


def _items(path: Path, rejects: Rejects) -> Iterator[tuple[Item, str, float | None]]:
    counts: Counter[str] = Counter()
    for number, row in read_table(path, rejects):
        kind = str(first_of(row, "task_type", "question_type") or path.stem)
        video = film_name(first_of(row, "video", "video_name"))
        question, options = _question(row)
        answer = row.get("answer")
        if options and isinstance(answer, str) and answer.strip() not in options:
            answer = answer_index(answer)
        item = Item(
            number,
            first_of(row, "question_id") or f"{kind}_{counts[kind]}",
            question,
            None if kind in OPEN else options,
            answer,
            video,
            show=kind,
            facts=(("task_type", kind),),
            file=path,
        )
        counts[kind] += 1
        yield item, video, seconds(row.get("duration"))


def _question(row: Row) -> tuple[object, list[object]]:
    if "candidates" in row:
        return row.get("question"), read_options(row["candidates"])
    question, options = split_question(row.get("question"))
    return question, list(options)
