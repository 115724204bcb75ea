"""MLVU: one file per task. The answer is the option's text.

    json/1_plotQA.json .. json/7_topic_reasoning.json, also under MLVU/json/ or in the folder itself
        [{"video", "duration", "question", "candidates", "answer", "question_type"}]
    or a table with `video_name`, `task_type`, and the options in the question (the hub's copies)
    json/8_sub_scene.json, json/9_summary.json: open-ended, the split generation
    test_question.json: the test split, whose answers are hidden

MLVU reports the mean over its task types, not over its questions.

The published dev files have 2,175 questions. One has neither question nor options, and two have an
answer that is not among their options. These three are left out and counted. Three others have
options without text, shown as `(no text)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from longvideo_env.datasets.footage import Benchmark, Footage, Item
from longvideo_env.datasets.own.answer_keys import answer_index, is_absent, read_options
from longvideo_env.datasets.own.table_files import Row, read_table
from longvideo_env.datasets.readers.common import (
    film_name,
    first_of,
    seconds,
    split_file,
    split_question,
)
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import DatasetNotFoundError, InvalidRowError

TASKS = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
OPEN = ("sub_scene", "summary")
FILES = {
    "dev": ("data/test-*", "test-*", "MLVU_MCQ", "mlvu_dev"),
    "test": ("test_question", "test_multi_choice_tasks", "*/test_question", "mlvu_test"),
    "generation": ("MLVU_OpenEnded",),
}
NO_TEXT = "(no text)"
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
            "expected one file per task, such as json/1_plotQA.json.", folder, None, error.mend
        ) from error
    items: list[Item] = []
    footage: dict[str, Footage] = {}
    for path in paths:
        for item, video, length_s in _items(path, rejects, words=split == "generation"):
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


def _items(
    path: Path, rejects: Rejects, *, words: bool
) -> Iterator[tuple[Item, str, float | None]]:
    counts: Counter[str] = Counter()
    for number, row in read_table(path, rejects):
        kind = str(first_of(row, "task_type", "question_type") or path.stem)
        video = film_name(first_of(row, "video", "video_name"))
        qid = first_of(row, "question_id") or f"{kind}_{counts[kind]}"
        counts[kind] += 1
        question, options = _question(row)
        answer = row.get("answer")
        if not words:
            try:
                answer = _answer(question, options, answer)
            except ValueError as error:
                rejects.leave_out(InvalidRowError(f"question {qid}: {error}", path, number))
                continue
        item = Item(
            number,
            qid,
            question,
            None if words else [NO_TEXT if is_absent(option) else option for option in options],
            answer,
            video,
            show=kind,
            facts=(("task_type", kind),),
            file=path,
        )
        yield item, video, seconds(row.get("duration"))


def _answer(question: object, options: list[object], answer: object) -> object:
    """Index of the answer. Its text is compared first, because an option may be "2".

    Raises:
        ValueError: The published row cannot be played.
    """
    if is_absent(question) and all(map(is_absent, options)):
        raise ValueError("expected a question with options, got blanks")
    if not isinstance(answer, str) or not options:
        return answer
    texts = [str(option).strip() for option in options]
    if answer.strip() in texts:
        return texts.index(answer.strip())
    index = answer_index(answer)
    if isinstance(index, str):
        raise ValueError(f"expected the text of an option as answer, got {answer!r:.60}")
    return index


def _question(row: Row) -> tuple[object, list[object]]:
    if "candidates" in row:
        return row.get("question"), read_options(row["candidates"])
    question, options = split_question(row.get("question"))
    return question, list(options)
