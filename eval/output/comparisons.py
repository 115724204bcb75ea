"""A comparison of two runs as lines: the difference, its method, and the power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.metrics.intervals import few_videos
from eval.metrics.paired import LEAST_VIDEOS, SIGN_FLIP

_METHODS = {
    SIGN_FLIP: "exact sign-flip test over videos",
    "t": "t-test clustered by video (CR2)",
}
SIGNIFICANT = 0.05


def difference_lines(numbers: Mapping[str, Any], comparisons: int = 1) -> list[str]:
    """The difference with its interval and p, and notes about it.

    Args:
        numbers: The numbers of `eval.metrics.pairs.count`.
        comparisons: Number of comparisons. If there are several, `p_holm` is also printed.
    """
    within = format_signed_interval(numbers["difference_ci95"])
    head = f"difference B - A: {numbers['difference']:+.3f} ({within})"
    if numbers["p"] is None:
        head = f"difference B - A: {numbers['difference']:+.3f}, no interval and no p"
    else:
        head += f", p = {format_p(numbers['p'])}"
        if comparisons > 1:
            head += f" (Holm's for {comparisons} comparisons: {format_p(numbers['p_holm'])})"
        head += f", {_METHODS[numbers['method']]}"
    note = few_videos(numbers["n_videos"])
    return [head, *([note] if note else []), *power_lines(numbers)]


def power_lines(numbers: Mapping[str, Any]) -> list[str]:
    """The difference that could be found, if p is not significant. Empty if it is."""
    p, videos = numbers.get("p_holm") or numbers["p"], numbers["n_videos"]
    if p is not None and p <= SIGNIFICANT:
        return []
    if numbers["videos_needed"] is None and numbers["detectable"] is None:
        if numbers["a_only"] == numbers["b_only"] == 0:
            return ["not significant: the runs never disagree"]
        why = f"fewer than {LEAST_VIDEOS} videos cannot show a difference at p = {SIGNIFICANT}"
        return [f"not significant: {why}"]
    parts = []
    if numbers["detectable"] is not None:
        parts.append(
            f"{videos:,} such videos find a difference of {numbers['detectable']:.3f} four times "
            "in five"
        )
    else:
        parts.append(f"fewer than {LEAST_VIDEOS} videos cannot show a difference")
    if (needed := numbers["videos_needed"]) is not None:
        questions = round(needed * numbers["per_video"])
        parts.append(f"a difference of {abs(numbers['difference']):.3f} needs {needed:,}")
        parts[-1] += f" videos ({questions:,} questions)"
    return [f"not significant: {'; '.join(parts)}"]


def power_notes(comparisons: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """A line for each comparison that is not significant, with the name of its row."""
    return [
        f"{name}: {line}"
        for name, numbers in comparisons.items()
        if numbers is not None
        for line in power_lines(numbers)
    ]


def format_signed_interval(interval: Sequence[float] | None) -> str:
    """The interval of a difference."""
    return "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def format_p(p: float | None) -> str:
    """A p-value for a table. None is a dash."""
    if p is None:
        return "-"
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.1e}"
