"""Confidence intervals that know that questions about one video are not independent.

Questions of one video share its subtitles, its frames and its difficulty, and several samples of a
question share the question. So an interval that counts every episode as new evidence is too narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import t

CONFIDENCE = 0.95


def clustered_share(
    hits: Sequence[bool], clusters: Sequence[Hashable]
) -> tuple[float, float] | None:
    """The interval of a share of hits, clustered.

    The variance of the share is estimated between clusters (Liang and Zeger's sandwich with the
    factor G/(G-1)). Its ratio to that of independent hits, at least 1, says how many independent
    hits the sample is worth; Wilson's interval is then taken for that many, with Student's t of
    G-1 degrees of freedom. So it stays within 0 and 1, and has a width where all hits are alike:
    there each cluster counts as one.

    Args:
        hits: What happened.
        clusters: What each belongs to, such as its video.

    Returns:
        The ends of the interval at 95 %, or None for fewer than two clusters.
    """
    n, groups = len(hits), sorted(set(clusters), key=repr)
    if len(groups) < 2:
        return None
    values = np.asarray(hits, dtype=float)
    place = {group: i for i, group in enumerate(groups)}
    index = np.asarray([place[cluster] for cluster in clusters])
    p = float(values.mean())
    if p in (0.0, 1.0):
        worth = float(len(groups))
    else:
        variance = _clustered_variance(values, index, len(groups))
        worth = n / max(1.0, variance / (p * (1 - p) / n))
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(groups) - 1))
    centre = (p + quantile**2 / (2 * worth)) / (1 + quantile**2 / worth)
    half = (
        quantile
        / (1 + quantile**2 / worth)
        * float(np.sqrt(p * (1 - p) / worth + quantile**2 / (4 * worth**2)))
    )
    return max(0.0, centre - half), min(1.0, centre + half)


def clustered_mean(
    values: Sequence[float], clusters: Sequence[Hashable]
) -> tuple[float, float] | None:
    """The interval of a mean, clustered: for differences, which have no bounds of their own.

    Returns:
        The ends of the interval at 95 %, or None for fewer than two clusters.
    """
    groups = sorted(set(clusters), key=repr)
    if len(groups) < 2:
        return None
    place = {group: i for i, group in enumerate(groups)}
    index = np.asarray([place[cluster] for cluster in clusters])
    array = np.asarray(values, dtype=float)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(groups) - 1)) * float(
        np.sqrt(_clustered_variance(array, index, len(groups)))
    )
    return float(array.mean()) - half, float(array.mean()) + half


def _clustered_variance(values: np.ndarray, index: np.ndarray, n_groups: int) -> float:
    """Variance of the mean, estimated from the sums of each cluster's residuals."""
    sums = np.bincount(index, weights=values - values.mean(), minlength=n_groups)
    return float((sums**2).sum() * n_groups / (n_groups - 1) / len(values) ** 2)
