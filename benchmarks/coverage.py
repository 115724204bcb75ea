"""Measure the coverage of the 95 % intervals on simulated videos with correlated questions.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --draws 500 --few

Each draw simulates a run. Every video has its own rate around the true accuracy, and its questions
are right at that rate. Two questions of a video have the given intra-class correlation. Rates come
from a beta distribution (`beta`), or from a normal distribution through its distribution function
(`copula`). In the last table a quarter of the videos is hard and the others are alike (`quarter`),
which is far from both. The tables show the share of draws whose interval covers the true accuracy,
for

- `Wilson`: questions treated as independent;
- `CR1, t`: the usual clustered standard error with Student's t of videos - 1 degrees of freedom;
- `CR2, t`: Bell and McCaffrey's, with Satterthwaite's degrees of freedom;
- `ours`: `eval.metrics.intervals.clustered_share`, with its mean width.

The table of differences compares two runs on the same questions with
`eval.metrics.paired.clustered_difference`. It also shows how often p is at most 0.05 if the runs
are equally good.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, roots_hermitenorm
from scipy.stats import binomtest, t

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eval.metrics.clusters import gather, spread
from eval.metrics.intervals import clustered_share
from eval.metrics.paired import clustered_difference

SEED = 20261126


def pareto(n: int, seed: int) -> list[int]:
    """Sizes with a heavy tail: a few videos have most of the questions."""
    drawn = 4 * (np.random.default_rng(seed).pareto(1.2, n) + 1)
    return [int(size) for size in drawn]


def zipf(n: int, largest: int, smallest: int) -> list[int]:
    """Sizes that fall like 1, 1/2, 1/3, ..."""
    return [max(smallest, largest // rank) for rank in range(1, n + 1)]


SIX = {
    "10 uneven": [2, 3, 5, 8, 10, 12, 15, 20, 30, 45],
    "30 heavy-tailed": zipf(30, 120, 4),
    "5 uneven": [5, 10, 20, 40, 80],
}
MORE = {
    "5 equal": [12] * 5,
    "8 equal": [12] * 8,
    "20 uneven": zipf(20, 60, 2),
    "50 heavy-tailed": pareto(50, 4),
    "100 equal": [12] * 100,
    "100 heavy-tailed": pareto(100, 8),
}
PAIRED = {"6 uneven": zipf(6, 60, 4), **SIX, **MORE}


def beta_rates(p: float, correlation: float, rng: np.random.Generator, n: int) -> np.ndarray:
    """Rates of n videos. Shape: (n,)."""
    if correlation == 0:
        return np.full(n, p)
    scale = 1 / correlation - 1
    return rng.beta(p * scale, (1 - p) * scale, n)


def copula_rates(p: float, correlation: float, rng: np.random.Generator, n: int) -> np.ndarray:
    """Rates of n videos. Shape: (n,)."""
    latent = latent_correlation(p, correlation)
    return rate_at(rng.standard_normal(n), p, latent)


def quarter_rates(p: float, correlation: float, rng: np.random.Generator, n: int) -> np.ndarray:
    """Rates of n videos, a quarter of them hard. Shape: (n,)."""
    step = (correlation * p * (1 - p) / 3) ** 0.5
    return np.where(rng.random(n) < 0.25, p - 3 * step, p + step)


def rate_at(x: np.ndarray, p: float, latent: float) -> np.ndarray:
    """The rate of a video that is x standard deviations from the mean."""
    return np.asarray(ndtr((ndtri(p) + np.sqrt(latent) * x) / np.sqrt(1 - latent)))


_KNOWN: dict[tuple[float, float], float] = {}


def latent_correlation(p: float, correlation: float) -> float:
    """The correlation of the latent normal values."""
    if (p, correlation) not in _KNOWN:
        nodes, weights = roots_hermitenorm(120)
        weights = weights / weights.sum()

        def excess(latent: float) -> float:
            variance = float((weights * (rate_at(nodes, p, latent) - p) ** 2).sum())
            return variance / (p * (1 - p)) - correlation

        _KNOWN[p, correlation] = float(brentq(excess, 1e-9, 0.999))
    return _KNOWN[p, correlation]


RATES: dict[str, Callable[[float, float, np.random.Generator, int], np.ndarray]] = {
    "beta": beta_rates,
    "copula": copula_rates,
    "quarter": quarter_rates,
}
USUAL = ("beta", "copula")


def others(right: list[bool], videos: list[int]) -> dict[str, tuple[float, float]]:
    """The other intervals, for comparison with ours."""
    wilson = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    found = gather(right, videos)
    error = spread(found, 0.0)
    n = found.n_clusters
    plain = float(((found.weights * (found.means - found.mean)) ** 2).sum()) * n / (n - 1)
    cr1 = float(t.ppf(0.975, n - 1)) * plain**0.5
    cr2 = float(t.ppf(0.975, error.df)) * error.standard_error
    return {
        "Wilson": (float(wilson.low), float(wilson.high)),
        "CR1, t": (found.mean - cr1, found.mean + cr1),
        "CR2, t": (found.mean - cr2, found.mean + cr2),
    }


def share_row(
    sizes: Sequence[int], rates: str, p: float, correlation: float, draws: int
) -> dict[str, float]:
    """How often each interval covers p, and the mean width of ours."""
    rng = np.random.default_rng(SEED)
    videos = np.repeat(np.arange(len(sizes)), sizes)
    of, held, width = videos.tolist(), dict.fromkeys(("Wilson", "CR1, t", "CR2, t", "ours"), 0), 0.0
    for _ in range(draws):
        rate = RATES[rates](p, correlation, rng, len(sizes))[videos]
        right = (rng.random(len(videos)) < rate).tolist()
        ours = clustered_share(right, of)
        assert ours is not None
        width += ours[1] - ours[0]
        for name, (low, high) in {**others(right, of), "ours": ours}.items():
            held[name] += low <= p <= high
    return {**{name: n / draws for name, n in held.items()}, "width": width / draws}


def paired_row(
    sizes: Sequence[int], difference: float, correlation: float, draws: int
) -> tuple[float, float, float]:
    """How often the interval covers the difference, how often p <= 0.05, and the mean width."""
    rng = np.random.default_rng(SEED)
    videos = np.repeat(np.arange(len(sizes)), sizes)
    of, shares = videos.tolist(), np.array([0.12 + difference, 0.12, 0.76 - difference])
    held, found, width = 0, 0, 0.0
    for _ in range(draws):
        lean = np.tile(shares, (len(sizes), 1))
        if correlation > 0:
            lean = rng.dirichlet(shares * (1 / correlation - 1), len(sizes))
        bounds, drawn = lean.cumsum(axis=1)[videos], rng.random(len(videos))
        values = 1.0 * (drawn < bounds[:, 0]) - (drawn >= bounds[:, 0]) * (drawn < bounds[:, 1])
        result = clustered_difference(values.tolist(), of)
        assert result.interval is not None
        assert result.p is not None
        low, high = result.interval
        held += low - 1e-9 <= difference <= high + 1e-9
        found += result.p <= 0.05
        width += high - low
    return held / draws, found / draws, width / draws


def print_shares(
    settings: dict[str, list[int]],
    grid: Sequence[tuple[float, float]],
    n: int,
    drawn: Sequence[str] = USUAL,
) -> None:
    """Print one row per setting."""
    print("\n| videos | accuracy | correlation | rates | Wilson | CR1, t | CR2, t | ours | width |")
    print("|---|--:|--:|---|--:|--:|--:|--:|--:|")
    for name, sizes in settings.items():
        for p, correlation in grid:
            for rates in drawn:
                row = share_row(sizes, rates, p, correlation, n)
                numbers = " | ".join(
                    f"{row[k]:.3f}" for k in ("Wilson", "CR1, t", "CR2, t", "ours")
                )
                print(
                    f"| {name} | {p} | {correlation} | {rates} | {numbers} | {row['width']:.2f} |",
                    flush=True,
                )


def print_paired(draws: int) -> None:
    """Print one row per setting."""
    print("\n| videos | difference | correlation | holds it | p <= 0.05 | width |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, sizes in PAIRED.items():
        for difference, correlation in ((0.0, 0.0), (0.0, 0.1), (0.1, 0.1), (0.1, 0.3)):
            held, found, width = paired_row(sizes, difference, correlation, draws)
            print(
                f"| {name} | {difference} | {correlation} | {held:.3f} | {found:.3f} "
                f"| {width:.2f} |",
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4000, help="draws per setting (default 4000)")
    parser.add_argument("--few", action="store_true", help="only the first table")
    options = parser.parse_args()
    start, error = time.perf_counter(), (0.95 * 0.05 / options.draws) ** 0.5
    print(f"{options.draws:,} draws per setting, seed {SEED}; standard error of 0.95: {error:.4f}")
    for name, sizes in SIX.items():
        print(f"{name}: {', '.join(map(str, sizes))}")
    grid = [(0.5, 0.1), (0.5, 0.2), (0.9, 0.1), (0.9, 0.2)]
    print_shares(SIX, grid, options.draws)
    if not options.few:
        print_shares(MORE, [(0.5, 0.0001), (0.5, 0.2), (0.9, 0.1), (0.97, 0.2)], options.draws)
        print_paired(options.draws)
        print_shares(SIX, grid, options.draws, ["quarter"])
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
