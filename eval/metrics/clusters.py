"""The mean of clustered values, such as questions about the same video, and its error.

    found = gather([1, 0, 1, 1], ["s01e01", "s01e01", "s01e02", "s01e03"])
    found.mean, found.n_clusters, found.correlation
    spread(found).standard_error, spread(found).df

The variance is the bias-reduced CR2 of Bell and McCaffrey (Survey Methodology 28, 2002), with their
Satterthwaite degrees of freedom. All clusters share one correlation (Pustejovsky and Tipton,
Journal of Business & Economic Statistics 36, 2018, equations 6 and 11). Both have a closed form for
a mean, so a thousand videos take milliseconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

WORKING_SHARE = 0.08
"""The share of the estimated correlation that CR2 uses (`docs/statistics.md`).

With a share of 1, intervals cover 0.99 if one video has a third of the questions, because right and
wrong vary less than normal values. With a share of 0, they cover 0.91 if many videos are small.
"""


@dataclass(frozen=True)
class Clustered:
    """Values by cluster. Several values of one question become one value, their mean.

    Attributes:
        mean: Weighted mean of the values.
        weights: Share of each cluster in the mean. Shape: (clusters,)
        means: Weighted mean within each cluster. Shape: (clusters,)
        sizes: Effective number of equal-weight questions in each cluster. Shape: (clusters,)
        n_questions: Number of questions.
        n_equal: Effective number of equal-weight questions.
        independent: Variance of the mean if questions were independent.
        correlation: Intra-class correlation from an analysis of variance, from 0 to 1.
    """

    mean: float
    weights: Floats
    means: Floats
    sizes: Floats
    n_questions: int
    n_equal: float
    independent: float
    correlation: float

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.weights)

    @property
    def typical_size(self) -> float:
        """Mean size of the cluster of a random question."""
        return float((self.weights * self.sizes).sum())


@dataclass(frozen=True)
class Spread:
    """The uncertainty of the mean.

    Attributes:
        variance: Variance of the mean.
        df: Satterthwaite's degrees of freedom of that variance.
    """

    variance: float
    df: float

    @property
    def standard_error(self) -> float:
        """The root of the variance."""
        return float(np.sqrt(self.variance))


def gather(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    questions: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
) -> Clustered:
    """Group values by cluster.

    Args:
        values: At least one value.
        clusters: The cluster of each value.
        questions: The question of each value. Samples of one question share it. By default each
            value has its own question.
        weights: The weight of each value in the mean. By default all weights are equal.

    Raises:
        ValueError: There are no values, or the arguments differ in length.
    """
    n = len(values)
    if not n or {n} != {len(x) for x in (clusters, questions, weights) if x is not None}:
        raise ValueError("expected values and as many clusters, questions and weights.")
    cluster = _numbered(clusters)
    question = _numbered(range(n) if questions is None else zip(cluster, questions, strict=True))
    share = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    share = share / share.sum()
    q_weight = _sums(question, share)
    q_value = _sums(question, share * np.asarray(values, dtype=float)) / q_weight
    of = np.zeros(len(q_weight), dtype=np.intp)
    of[question] = cluster
    w = _sums(of, q_weight)
    means = _sums(of, q_weight * q_value) / w
    sizes = w**2 / _sums(of, q_weight**2)
    mean = float((w * means).sum())
    independent = float(((q_weight * (q_value - mean)) ** 2).sum())
    correlation = _correlation(q_value - means[of], means - mean, sizes)
    n_equal = 1 / float((q_weight**2).sum())
    return Clustered(mean, w, means, sizes, len(q_weight), n_equal, independent, correlation)


def spread(found: Clustered, correlation: float | None = None) -> Spread:
    """The variance of the mean by CR2, and its degrees of freedom.

    Args:
        found: The values of two clusters or more.
        correlation: Intra-class correlation of the working model. By default `WORKING_SHARE` times
            that of the values. 0 gives the textbook's CR2.
    """
    rho = WORKING_SHARE * found.correlation if correlation is None else correlation
    w, v = found.weights, rho + (1 - rho) / found.sizes
    u = w * v
    s = float((w * u).sum())
    of_residual = v - 2 * u + s  # variance of a cluster's residual under the working model
    a = w**2 * v / of_residual
    variance = float((a * (found.means - found.mean) ** 2).sum())
    # Traces of the quadratic form: residuals i and j covary by s - u[i] - u[j].
    a0, a1, a2 = (float((a * u**k).sum()) for k in range(3))
    squares = (a0 * s) ** 2 + 2 * a0 * a2 + 2 * a1**2 - 4 * s * a0 * a1
    squares += float((a**2 * (of_residual**2 - (s - 2 * u) ** 2)).sum())
    return Spread(variance, float((a * of_residual).sum()) ** 2 / squares)


def _numbered(keys: Iterable[Hashable]) -> NDArray[np.intp]:
    seen: dict[Any, int] = {}
    return np.fromiter((seen.setdefault(key, len(seen)) for key in keys), dtype=np.intp)


def _sums(index: NDArray[np.intp], values: Floats) -> Floats:
    return np.asarray(np.bincount(index, weights=values), dtype=np.float64)


def _correlation(within: Floats, between: Floats, sizes: Floats) -> float:
    """The share of variance between clusters, from the mean squares of an analysis of variance."""
    n, groups, total = len(within), len(between), float(sizes.sum())
    if groups < 2 or n <= groups:
        return 0.0
    inside = float((within**2).sum()) / (n - groups)
    outside = float((sizes * between**2).sum()) / (groups - 1)
    usual = (total - float((sizes**2).sum()) / total) / (groups - 1)
    scale = outside + (usual - 1) * inside
    return min(1.0, max(0.0, (outside - inside) / scale)) if scale > 0 else 0.0
