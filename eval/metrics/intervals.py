"""Confidence intervals for questions that are not independent because they share videos.

Questions about one video share its subtitles, its frames and its difficulty. Several samples of a
question share the question. An interval that treats all episodes as independent is too narrow.
`docs/statistics.md` says how the methods were chosen, and how often their intervals cover the
truth.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

from eval.metrics.clusters import Clustered, gather, spread

CONFIDENCE = 0.95
TAIL = (1 + CONFIDENCE) / 2
NORMAL = float(ndtri(TAIL))
FEW_VIDEOS = 10
"""With fewer videos than this, a note is printed beside a figure."""
EDGE_CORRELATION = 0.2
"""Assumed correlation of a video's questions if all are right or all wrong, so it is unknown."""


def clustered_share(
    right: Sequence[float],
    clusters: Sequence[Hashable],
    questions: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
) -> tuple[float, float] | None:
    """The 95 % interval of a share of hits, clustered by video.

    The CR2 variance and Student's t give the effective number of independent questions, at most the
    real number. The interval is Wilson's (1927) for that number, so it stays within 0 and 1. If all
    answers are right, or none, the limit is the exact one (Clopper and Pearson, 1934). It assumes
    an intra-class correlation of `EDGE_CORRELATION` for the number of questions.

    Args:
        right: 1 or 0 for each answer, or a share of a question's samples.
        clusters: The cluster of each answer, such as its video.
        questions: The question of each answer, if questions were sampled several times.
        weights: The weight of each answer. By default all weights are equal.

    Returns:
        The ends of the interval. None for fewer than two clusters, because one video is one
        observation and says nothing about other videos.
    """
    if not right:
        return None
    found = gather(right, clusters, questions, weights)
    if found.n_clusters < 2:
        return None
    p = found.mean
    if not 1e-12 < p < 1 - 1e-12:
        limit = exact_limit(found)
        return (0.0, limit) if p < 0.5 else (1 - limit, 1.0)
    z, error = NORMAL, spread(found)
    variance = max(error.variance * (student(error.df) / z) ** 2, found.independent)
    # If samples split equally on every question, the variance is 0. Then each question is one vote.
    worth = p * (1 - p) / variance if variance > 0 else found.n_equal
    centre = (p + z**2 / (2 * worth)) / (1 + z**2 / worth)
    half = z / (1 + z**2 / worth) * float(np.sqrt(p * (1 - p) / worth + (z / (2 * worth)) ** 2))
    return max(0.0, centre - half), min(1.0, centre + half)


def exact_limit(found: Clustered) -> float:
    """The upper limit of the share if no question was hit."""
    worth = found.n_equal / (1 + max(0.0, found.typical_size - 1) * EDGE_CORRELATION)
    return float(1 - (1 - TAIL) ** (1 / worth))


def student(df: float) -> float:
    """The quantile of Student's t for a 95 % interval."""
    return float(stdtrit(max(df, 1.0), TAIL))


def few_videos(n_videos: int) -> str | None:
    """A note for an interval from few videos. None if there are enough."""
    if n_videos == 1:
        return (
            "one video: no interval. All its questions are one observation and say nothing about "
            "other videos"
        )
    if n_videos < FEW_VIDEOS:
        return (
            f"{n_videos} videos are few, so the interval is wide: it is about all such videos. "
            "More videos make it narrower. More questions about the same videos hardly do"
        )
    return None
