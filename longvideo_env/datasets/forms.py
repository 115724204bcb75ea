"""Asks the questions of a dataset in another form: free text, or "when is it shown?".

    open_questions(config)                  # the dataset of a configuration, in its form
    ask_as(load_dataset("mini", "test"), "when")

A question keeps its id, so that runs in several forms can be compared question by question.
Questions without a known answer or span are left out and counted in `coverage`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from longvideo_env.config import CHOICE, WHEN, WORDS, EnvConfig
from longvideo_env.datasets.altered import in_words
from longvideo_env.datasets.dataset import Dataset
from longvideo_env.datasets.loading import load_dataset
from longvideo_env.schema import Gold, Task, Video
from longvideo_env.spans import Span, merge_spans

NO_SPAN = "without a known span"


def open_questions(config: EnvConfig, *, skip_invalid: bool | None = None) -> Dataset:
    """The dataset of a configuration, in the form that `EnvConfig.ask` names.

    Args:
        config: The environment.
        skip_invalid: Overrides the configuration's value.

    Raises:
        DataError: The dataset cannot be read.
    """
    dataset = load_dataset(
        config.dataset,
        config.split,
        frames_root=config.frames_root,
        skip_invalid=config.skip_invalid if skip_invalid is None else skip_invalid,
    )
    return ask_as(dataset, config.ask)


def ask_as(dataset: Dataset, ask: str) -> Dataset:
    """A dataset with every question in another form. Another call returns the same object."""
    return dataset if ask == CHOICE else _ask_as(dataset, ask)


def gold_spans(video: Video, gold: Gold) -> tuple[Span, ...]:
    """The stretches that show the answer, in seconds of the whole video. Empty if unknown.

    Parts that were cut at clip boundaries are joined again.
    """
    if gold.clues:
        placed = [(clip_id, (start, end)) for clip_id, start, end in gold.clues]
    elif gold.clip_id is not None and gold.span is not None:
        placed = [(gold.clip_id, gold.span)]
    else:
        return ()
    found = []
    for clip_id, (start, end) in placed:
        at = video.clip_times(clip_id)[0]
        found.append((at + start, at + end))
    return merge_spans(found)


@lru_cache(maxsize=8)
def _ask_as(dataset: Dataset, ask: str) -> Dataset:
    tasks: list[Task] = []
    left_out: dict[str, int] = {}
    for task in dataset:
        found = _FORMS[ask](task, dataset)
        if isinstance(found, Task):
            tasks.append(found)
        else:
            left_out[found] = left_out.get(found, 0) + 1
    before = dataset.coverage
    coverage = replace(before, n_questions=len(tasks), left_out={**before.left_out, **left_out})
    return replace(dataset, tasks=tuple(tasks), read=coverage)


def _when(task: Task, dataset: Dataset) -> Task | str:
    spans = gold_spans(dataset.video(task.question), task.gold)
    if not spans:
        return NO_SPAN
    gold = replace(task.gold, answer=None, twins=(), when=spans)
    return Task(replace(task.question, options=(), ask=WHEN), gold)


def _in_words(task: Task, dataset: Dataset) -> Task | str:
    found = in_words(task)
    if isinstance(found, str):
        return found
    return replace(found, question=replace(found.question, ask=WORDS))


_FORMS: dict[str, Callable[[Task, Dataset], Task | str]] = {WORDS: _in_words, WHEN: _when}
