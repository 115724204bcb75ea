"""Chooses the questions for `--limit N`: drawn evenly over the videos.

first_hundred = draw_order(dataset, range(len(dataset)), seed=0)[:100]

The first N of the order are a fair sample for any N. A larger N keeps them and adds more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from longvideo_env.datasets.dataset import Dataset
from longvideo_env.datasets.tvqa.index import LazyTasks
from longvideo_env.schema import Task
from longvideo_env.seeding import derive_seed


def draw_order(dataset: Dataset, places: Iterable[int], seed: int) -> list[int]:
    """Indices of questions in a random order. Its first N are a fair sample for any N.

    A video with n questions gets the points (u + 0) / n, (u + 1) / n, ..., with u drawn between
    0 and 1. Its questions are assigned to these points in random order. Sorted by point, the first
    N contain each video's share of N, rounded up or down at random (systematic sampling).
    """
    videos, qids = video_ids(dataset), dataset.qids
    of: dict[str, list[int]] = {}
    for place in places:
        of.setdefault(videos[place], []).append(place)
    points: list[tuple[float, int]] = []
    for video, group in of.items():
        start = derive_seed(seed, "video", video) / 2**63
        group.sort(key=lambda place: derive_seed(seed, "question", str(qids[place])))
        points += [((start + i) / len(group), place) for i, place in enumerate(group)]
    return [place for _, place in sorted(points)]


def video_ids(dataset: Dataset) -> Sequence[str]:
    """The video of each question, in the dataset's order."""
    tasks = dataset.tasks
    if isinstance(tasks, LazyTasks) and len(tasks) == len(tasks.qids):
        found: list[str] = tasks.kept("video-ids-1.json", _videos_of)
        if len(found) == len(tasks):
            return found
    return _videos_of(tasks)


def _videos_of(tasks: Iterable[Task]) -> list[str]:
    return [task.question.video_id for task in tasks]
