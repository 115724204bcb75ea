"""Confidence intervals that know that questions about one video are not independent.

Questions of one video share its subtitles, its frames and its difficulty, and several samples of a
question share the question. An interval that counts every episode as new evidence is too narrow.
`docs/statistics.md` says how the methods were chosen and how often their intervals hold the truth.
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
"""Fewer videos than this are said beside a figure."""
EDGE_CORRELATION = 0.2
"""Assumed of the questions of a video where all are right or all wrong, and none shows it."""


def clustered_share(
    right: Sequence[float],
    clusters: Sequence[Hashable],
    questions: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
) -> tuple[float, float] | None:
    """The interval of a share of hits, clustered.

    The variance of the share (CR2) and Student's t with its degrees of freedom say how many
    independent questions the sample is worth, at most as many as it holds. Wilson's interval (1927)
    is taken for that many, so that it stays within 0 and 1. Where all are right, or none, the limit
    is the exact one (Clopper and Pearson, 1934) for the questions that the videos are worth at an
    intra-class correlation of `EDGE_CORRELATION`.

    Args:
        right: What happened, 1 or 0 (or a share of a question's samples).
        clusters: What each belongs to, such as its video.
        questions: What each answers, where questions were sampled several times.
        weights: What each counts for; by default all alike.

    Returns:
        The ends of the interval at 95 %, or None for fewer than two clusters: one video is one
        observation, and says nothing of others.
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
    # Samples that split alike on every question have no variance: each question is then one vote.
    worth = p * (1 - p) / variance if variance > 0 else found.n_equal
    centre = (p + z**2 / (2 * worth)) / (1 + z**2 / worth)
    half = z / (1 + z**2 / worth) * float(np.sqrt(p * (1 - p) / worth + (z / (2 * worth)) ** 2))
    return max(0.0, centre - half), min(1.0, centre + half)


def exact_limit(found: Clustered) -> float:
    """The highest share that is still likely where no question was hit."""
    worth = found.n_equal / (1 + max(0.0, found.typical_size - 1) * EDGE_CORRELATION)
    return float(1 - (1 - TAIL) ** (1 / worth))


def student(df: float) -> float:
    """The quantile of Student's t for an interval at 95 %."""
    return float(stdtrit(max(df, 1.0), TAIL))


def few_videos(n_videos: int) -> str | None:
    """What a reader of an interval must know where the videos are few; None where they are not."""
    if n_videos == 1:
        return (
            "one video: no interval. All its questions are one observation, which says nothing of "
            "other videos"
        )
    if n_videos < FEW_VIDEOS:
        return (
            f"{n_videos} videos are few: the interval is about all such videos, and it is wide "
            "because so few say little about the others. More videos narrow it; more questions "
            "about the same ones hardly do"
        )
    return None
