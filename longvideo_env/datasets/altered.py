"""Ablated datasets: one thing is changed in every question, to see how much a policy needs it.

    load_dataset("variant:no-question@mini", "test")
    load_dataset("variant:none-of-the-others@data/tvqa", "val")

A variant keeps the question ids, so that runs on both can be compared question by question. Its
texts and hashes differ. Questions that a change would make wrong or empty are left out and counted
in `coverage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from longvideo_env.choices import pinned_options
from longvideo_env.datasets.dataset import Dataset
from longvideo_env.errors import SpecError
from longvideo_env.records.identity import digest_texts, short_hash
from longvideo_env.schema import Task, Video
from longvideo_env.specs import unknown

PREFIX = "variant:"
ASKED_INSTEAD = "Which of the options is right?"
NONE_OF_THE_OTHERS = "None of the other options."

NO_ANSWER = "without a known answer"
POINTS = "with an option that speaks of others"
TWIN = "with an option that says the same as the right one"

_Altered: TypeAlias = Task | str
"""Gives the changed task, or the reason why it is left out."""


def alter(dataset: Dataset, name: str) -> Dataset:
    """A variant of a dataset. A second call gives the same object.

    Args:
        dataset: The dataset.
        name: One of `VARIANTS`.

    Raises:
        SpecError: There is no such variant.
    """
    if name not in VARIANTS:
        raise SpecError(unknown("variant", name, VARIANTS))
    return _alter(dataset, name)


def split_variant(spec: str) -> tuple[str, str]:
    """The variant's name and the dataset of `variant:NAME@DATASET`.

    Raises:
        SpecError: The spec has another form.
    """
    name, at, dataset = spec.removeprefix(PREFIX).partition("@")
    if not (at and dataset):
        raise SpecError(f"expected variant:NAME@DATASET, got {spec!r}.")
    return name, dataset


@lru_cache(maxsize=8)
def _alter(dataset: Dataset, name: str) -> Dataset:
    videos = dataset.videos
    if name == NO_SUBTITLES:
        videos = SilentVideos(dataset)
    tasks: list[Task] = []
    left_out: dict[str, int] = {}
    for task in dataset:
        found = VARIANTS[name](task)
        if isinstance(found, Task):
            tasks.append(found)
        else:
            left_out[found] = left_out.get(found, 0) + 1
    before = dataset.coverage
    coverage = replace(
        before,
        n_questions=len(tasks),
        left_out={**before.left_out, **left_out},
        n_with_subtitles=0 if name == NO_SUBTITLES else before.n_with_subtitles,
    )
    return replace(
        dataset, name=f"{dataset.name}-{name}", tasks=tuple(tasks), videos=videos, read=coverage
    )


class SilentVideos(Mapping[str, Video]):
    """The videos of a dataset without their subtitles. Each is built at its first use."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._built: dict[str, Video] = {}

    def __getitem__(self, video_id: str) -> Video:
        video = self._built.get(video_id)
        if video is None:
            full = self._dataset.videos[video_id]
            clips = tuple(replace(clip, subtitles=()) for clip in full.clips)
            silent = Video(video_id, clips, full.frames_root, full.frames_fps)
            video = self._built.setdefault(video_id, silent)
        return video

    def __iter__(self) -> Iterator[str]:
        return iter(self._dataset.videos)

    def __len__(self) -> int:
        return len(self._dataset.videos)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._dataset.videos

    def digest(self) -> str:
        """A digest of all texts, without building a video."""
        return short_hash(f"{NO_SUBTITLES} {digest_texts(self._dataset)}")


def _without_question(task: Task) -> _Altered:
    return replace(task, question=replace(task.question, text=ASKED_INSTEAD))


def _none_of_the_others(task: Task) -> _Altered:
    question, gold = task.question, task.gold
    if gold.answer is None:
        return NO_ANSWER
    if gold.twins:
        return TWIN
    if pinned_options(question.options):
        return POINTS
    options = list(question.options)
    options[gold.answer] = NONE_OF_THE_OTHERS
    return replace(task, question=replace(question, options=tuple(options)))


def in_words(task: Task) -> Task | str:
    """The task without its options, or the reason why it cannot be asked that way."""
    question, gold = task.question, task.gold
    if not question.options:
        return NO_ANSWER if gold.text is None else task
    if gold.answer is None:
        return NO_ANSWER
    if pinned_options(question.options):
        return POINTS
    words = replace(gold, answer=None, twins=(), boxes=None, text=question.options[gold.answer])
    return Task(replace(question, options=()), words)


NO_SUBTITLES = "no-subtitles"
NO_OPTIONS = "no-options"

VARIANTS: Mapping[str, Callable[[Task], _Altered]] = {
    "no-question": _without_question,
    "none-of-the-others": _none_of_the_others,
    NO_OPTIONS: in_words,
    NO_SUBTITLES: lambda task: task,
}
"""`no-question`: the question is `ASKED_INSTEAD`. `none-of-the-others`: the text of the right
option is `NONE_OF_THE_OTHERS`. `no-options`: the answer is free text; gold is the text of the right
option. `no-subtitles`: the videos have no subtitles."""
