"""Turns a benchmark with whole videos into a `Dataset` with clips. Every reader uses this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from longvideo_env.choices import equal_options, name_labels
from longvideo_env.datasets.coverage import Coverage
from longvideo_env.datasets.dataset import Dataset, LazyVideos
from longvideo_env.datasets.footage import SPAN_SLACK_S, Benchmark, Cutter, Item
from longvideo_env.datasets.jsonfile import is_clean_text
from longvideo_env.datasets.own.answer_keys import read_answer
from longvideo_env.datasets.rejects import Rejects, kinds_of
from longvideo_env.datasets.tvqa.material import ClipTimes
from longvideo_env.datasets.tvqa.rows import RowPlace
from longvideo_env.errors import (
    AnswerOutOfRangeError,
    DuplicateQidError,
    InvalidRowError,
    MissingOptionError,
)
from longvideo_env.schema import (
    MAX_OPTIONS,
    MIN_OPTIONS,
    Gold,
    Qid,
    Question,
    Task,
)


def assemble(
    name: str,
    split: str,
    benchmark: Benchmark,
    rejects: Rejects,
    root: Path | None = None,
    frames_root: Path | None = None,
    source: str = "",
) -> Dataset:
    """Cut the videos into clips and turn the items into tasks.

    Raises:
        InvalidRowError: An item is wrong, and invalid rows are not skipped.
    """
    items = list(benchmark.items)
    cutter = Cutter(benchmark, items)
    tasks = _tasks(items, benchmark, cutter, rejects)
    rejects.finish()
    skipped = (*rejects.errors, *rejects.left_out)
    lazy = LazyVideos(
        cutter.clip_ids,
        {},
        cutter.captions,
        frames_root,
        timed=cutter.subtitles,
        times=ClipTimes(cutter.spans),
    )
    films = {film.video_id: film for film in cutter.films.values()}
    with_text = sum(map(lazy.has_subtitles, lazy))
    with_text += sum(any(clip.subtitles for clip in film.clips) for film in films.values())
    return Dataset(
        name=name,
        split=split,
        tasks=tuple(tasks),
        videos={**lazy, **films} if films else lazy,
        skipped=skipped,
        root=root,
        source=source,
        read=Coverage(
            len(tasks),
            kinds_of(skipped),
            len(cutter.video_ids),
            with_text,
            rejects.unread,
            rejects.partly,
            rejects.notes,
        ),
    )


def _tasks(
    items: Sequence[Item], benchmark: Benchmark, cutter: Cutter, rejects: Rejects
) -> list[Task]:
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for item in items:
        place = RowPlace(item.file or benchmark.file, item.row, item.qid)
        try:
            task = make_task(item, place, cutter, benchmark.columns)
            qid = str(task.qid)
            if qid in seen:
                task = _apart(task, seen[qid], place, seen, rejects)
            else:
                seen[qid] = item.row
            tasks.append(task)
        except InvalidRowError as error:
            rejects.add(error, error.__cause__)
            continue
        if equal_options(task.question.options):
            rejects.notes["with two equal options (both count as right)"] += 1
    return tasks


def _apart(task: Task, first: int, place: RowPlace, seen: dict[str, int], rejects: Rejects) -> Task:
    """The task under a new, unique id, because another question has the same one.

    Raises:
        DuplicateQidError: Invalid rows are not skipped.
    """
    if not rejects.skip_invalid:
        raise RowPlace(place.file, place.row, task.qid).error(
            DuplicateQidError, f"expected a qid of its own; rows {first} and {place.row} share it."
        )
    number = 2
    while f"{task.qid}#{number}" in seen:
        number += 1
    qid = f"{task.qid}#{number}"
    seen[qid] = place.row
    rejects.notes["with an id that another has too (made unique)"] += 1
    return Task(replace(task.question, qid=qid), task.gold)


def make_task(item: Item, place: RowPlace, cutter: Cutter, columns: Mapping[str, str]) -> Task:
    """Check an item and turn it into a task.

    Raises:
        InvalidRowError: Or a subclass: the item is invalid.
    """
    qid = _checked_qid(item.qid, place, columns.get("qid", "qid"))
    if not is_clean_text(item.text) or not item.text.strip():
        raise place.error(
            InvalidRowError,
            f"expected a question text in {columns.get('question', 'question')!r}, got "
            f"{item.text!r:.60}.",
        )
    options = _checked_options(item.options, place, columns.get("options", "options"))
    if item.video not in cutter.video_ids:
        raise place.error(
            InvalidRowError,
            f"expected the name of a video in {columns.get('video', 'video')!r}, got "
            f"{item.video!r:.60}.",
        )
    question = Question(
        qid=qid,
        text=item.text.strip(),
        options=options,
        video_id=cutter.video_ids[item.video],
        show=item.show if is_clean_text(item.show) else None,
        facts=item.facts,
    )
    return Task(question, _gold(item, options, place, cutter, columns))


def _gold(
    item: Item,
    options: tuple[str, ...],
    place: RowPlace,
    cutter: Cutter,
    columns: Mapping[str, str],
) -> Gold:
    if not options:
        words = item.answer if is_clean_text(item.answer) else None
        return Gold(text=words, **_gold_place(item, place, cutter, columns))
    try:
        answer = item.answer
        if type(answer) is not int or not 0 <= answer < len(options):
            answer = read_answer(answer, options)
    except ValueError as error:
        raise place.error(
            AnswerOutOfRangeError,
            f"expected an answer in {columns.get('answer', 'answer')!r} as a label from a0 to "
            f"a{len(options) - 1}, a letter, an index or an option's text, {error}.",
        ) from error
    right = next((group for group in equal_options(options) if answer in group), ())
    twins = tuple(twin for twin in right if twin != answer)
    return Gold(
        answer=answer,
        twins=twins,
        **(_gold_place(item, place, cutter, columns) if item.spans else {}),
    )


def _gold_place(
    item: Item, place: RowPlace, cutter: Cutter, columns: Mapping[str, str]
) -> dict[str, Any]:
    length = cutter.lengths[item.video]
    for start, end in item.spans:
        name = columns.get("span", "start_s, end_s")
        if not 0 <= start <= end:
            raise place.error(
                InvalidRowError,
                f"expected a start from 0 on and an end after it in {name!r}, got "
                f"[{start:g}, {end:g}].",
            )
        if length is not None and end > length + SPAN_SLACK_S:
            raise place.error(
                InvalidRowError,
                f"expected a span inside the video in {name!r}, got [{start:g}, {end:g}] in "
                f"{length:g} s.",
            )
    clues = cutter.clues(item)
    if not clues:
        return {}
    clip_id, *span = clues[0]
    return {"clip_id": clip_id, "span": (span[0], span[1]), "clues": clues}


def _checked_qid(qid: object, place: RowPlace, column: str) -> Qid:
    if type(qid) is int:
        return qid
    if is_clean_text(qid) and qid.strip():
        return qid.strip()
    raise RowPlace(place.file, place.row).error(
        InvalidRowError, f"expected a whole number or a text in {column!r}, got {qid!r:.60}."
    )


def _checked_options(
    options: Sequence[Any] | None, place: RowPlace, column: str
) -> tuple[str, ...]:
    if options is None:
        return ()
    if not MIN_OPTIONS <= len(options) <= MAX_OPTIONS:
        raise place.error(
            MissingOptionError,
            f"expected {MIN_OPTIONS} to {MAX_OPTIONS} options in {column!r}, got {len(options)}.",
        )
    try:
        if "\n".join(options).isascii() and all(texts := tuple(map(str.strip, options))):
            return name_labels(texts)
    except TypeError:
        pass
    found = []
    for i, option in enumerate(options):
        if type(option) in (int, float, bool):
            option = str(option)
        if not is_clean_text(option) or not option.strip():
            raise place.error(
                MissingOptionError,
                f"expected a text for option a{i} in {column!r}, got {option!r:.60}.",
            )
        found.append(option.strip())
    return name_labels(found)
