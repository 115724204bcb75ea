"""The difference of two runs on the same questions, with a clustered interval and p."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr, stdtr

from eval.metrics.clusters import Clustered, gather, spread
from eval.metrics.intervals import CONFIDENCE, NORMAL, exact_limit, student

MOST_FLIPPED = 14
"""Up to this many videos the test is exact: it tries all 2^14 patterns of signs."""
LEAST_VIDEOS = 6
"""With fewer videos p cannot reach 0.05: 2 of 2^5 patterns are more than 1 in 20."""
SIGN_FLIP, STUDENT = "sign-flip", "t"

_Result: TypeAlias = tuple[float, float, float]
"""The ends of an interval, and p."""


@dataclass(frozen=True)
class Difference:
    """A mean difference.

    Attributes:
        mean: The mean of B - A over the questions.
        interval: The 95 % interval, within -1 and 1. None with one video.
        p: Two-sided p. It is at most 0.05 exactly if the interval leaves out 0. None with one
            video.
        method: `sign-flip`, `t`, or None with one video.
        found: The differences by video, for planning more videos.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float | None
    method: str | None
    found: Clustered


def clustered_difference(
    differences: Sequence[float],
    clusters: Sequence[Hashable],
    questions: Sequence[Hashable] | None = None,
) -> Difference:
    """The mean of paired differences, clustered by video.

    With up to `MOST_FLIPPED` videos, p comes from the exact sign-flip test over videos. It is the
    share of sign patterns with a mean this large, if each video could equally favour the other run.
    The interval holds the values that this test does not reject. Its ends are means of subsets of
    the videos (Hartigan, JASA 64, 1969). With more videos, both come from Student's t with the CR2
    variance. The interval is never narrower, and p never smaller, than for independent questions.

    Args:
        differences: B - A for each pair of episodes, each within -1 and 1.
        clusters: The video of each pair.
        questions: The question of each pair. Samples of one question share it.
    """
    found = gather(differences, clusters, questions)
    mean = found.mean
    if found.n_clusters < 2:
        return Difference(mean, None, None, None, found)
    exact = found.n_clusters <= MOST_FLIPPED
    low, high, p = _sign_flip(found) if exact else _by_t(found)
    at_least, p_at_least = _independent(found)
    interval = max(-1.0, min(low, mean - at_least)), min(1.0, max(high, mean + at_least))
    return Difference(mean, interval, max(p, p_at_least), SIGN_FLIP if exact else STUDENT, found)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's p-values for several comparisons at once (Scandinavian Journal of Statistics 6, 1979).

    Returns:
        The values in the given order. None stays None and does not count as a comparison.
    """
    known = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted


def _sign_flip(found: Clustered) -> _Result:
    """The exact test. It assumes differences that are symmetric about their mean."""
    sums, weights = (_subset_sums(x) for x in (found.weights * found.means, found.weights))
    means = np.sort(sums[1:] / weights[1:])
    patterns = len(means) + 1
    rejected = int((1 - CONFIDENCE) / 2 * patterns)
    as_far = int((means <= 1e-12).sum()) if found.mean > 0 else int((means >= -1e-12).sum())
    p = min(1.0, 2 * (as_far + 1) / patterns)
    if not rejected:
        return -1.0, 1.0, p
    return float(means[rejected - 1]), float(means[-rejected]), p


def _subset_sums(values: np.ndarray) -> np.ndarray:
    """The sum of every subset, the empty one first. Shape: (n,) -> (2^n,)."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


def _by_t(found: Clustered) -> _Result:
    error = spread(found)
    if error.variance <= 0:  # all videos have equal differences: two of all patterns are as extreme
        return found.mean, found.mean, _nothing_but(found.mean, 2.0 ** (1 - found.n_clusters))
    half = student(error.df) * error.standard_error
    t = abs(found.mean) / error.standard_error
    return found.mean - half, found.mean + half, float(2 * stdtr(max(error.df, 1.0), -t))


def _independent(found: Clustered) -> tuple[float, float]:
    """Half the width of the interval, and p, if questions were independent of each other."""
    error = float(np.sqrt(found.independent))
    if error <= 0:
        return exact_limit(found) * (1 + abs(found.mean)), _nothing_but(found.mean, 0.0)
    return NORMAL * error, float(2 * ndtr(-abs(found.mean) / error))


def _nothing_but(mean: float, p: float) -> float:
    return 1.0 if mean == 0 else p
