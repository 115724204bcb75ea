"""The first lines of the page: what was played, which run is ahead, by how much, and how surely."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from eval.output.comparisons import SIGNIFICANT, format_p
from eval.report.folders import Source

Run = Mapping[str, Any]
"""A run as described by `eval.report.overview.describe_run`."""


def headline(runs: Sequence[Run], pairs: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: which run is ahead, by how much, and how surely.

    Runs whose agents were given gold (an oracle, boxes) are left out, unless there are no others.
    Two runs are compared on the questions that both finished.

    Args:
        runs: All runs of the page.
        pairs: Their comparisons from `eval.report.overview.describe_pairs`.
    """
    ranked = [i for i, run in enumerate(runs) if _accuracy(run) is not None]
    fair = [i for i in ranked if not (runs[i]["oracle"] or runs[i]["leaky"])]
    given = [runs[i]["name"] for i in ranked if i not in fair] if fair else []
    ranked = sorted(fair or ranked, key=lambda i: -(_accuracy(runs[i]) or 0.0))
    if not ranked:
        return next(filter(None, map(_learned, runs)), "")
    text = _alone(runs[ranked[0]]) if len(ranked) == 1 else _ahead(runs, ranked, pairs)
    return f"{text[:-1]}; left out, because given gold: {', '.join(given)}." if given else text


def about(sources: Sequence[Source]) -> str:
    """The line under the title: dataset and split, questions and videos, and the day.

    The day is that of each run's newest file, in UTC.
    """
    places = dict.fromkeys(filter(None, map(_place, sources)))
    asked = [{str(t.qid) for t in s.trajectories} for s in sources if s.episodes]
    shown = [{t.video_id for t in s.trajectories} for s in sources if s.episodes]
    days = sorted({day for source in sources if (day := _day(source.files))})
    parts = [
        ", ".join(places),
        f"{_range(map(len, asked), 'question')} of {_range(map(len, shown), 'video')}"
        if asked
        else "",
        "played " + " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "",
    ]
    return " \u00b7 ".join(filter(None, parts))


def _place(source: Source) -> str:
    """Dataset and split, without the folders above the dataset."""
    dataset, split = source.config.get("dataset"), source.config.get("split")
    if dataset is None:
        return ""
    text = str(dataset)
    name = Path(text).name if "/" in text.partition(":")[0] else text
    return name if split is None else f"{name}, split {split}"


def _range(counts: Iterable[int], noun: str) -> str:
    found = sorted(set(counts))
    text = " to ".join(f"{n:,}" for n in dict.fromkeys([found[0], found[-1]]))
    return f"{text} {noun}" + ("" if found[-1] == 1 else "s")


def _day(files: Iterable[Path]) -> str | None:
    newest = max((file.stat().st_mtime for file in files), default=None)
    return None if newest is None else f"{datetime.fromtimestamp(newest, timezone.utc):%Y-%m-%d}"


def _accuracy(run: Run) -> float | None:
    if run["kind"] != "evaluation":
        return None
    accuracy: float | None = run["summary"].get("accuracy")
    return accuracy


def _alone(run: Run) -> str:
    summary = run["summary"]
    found = summary["accuracy_ci95"]
    within = f"95% interval {_points(found[0])} to {_points(found[1])}" if found else "no interval"
    n = summary["n_scored"]
    return f"{run['name']} answers {_points(_accuracy(run))}% of {n:,} questions right ({within})."


def _ahead(runs: Sequence[Run], ranked: Sequence[int], pairs: Sequence[Mapping[str, Any]]) -> str:
    best, *others = ranked
    pair = next((p for i in others for p in pairs if {p["a"], p["b"]} == {best, i}), None)
    if pair is None:
        return (
            f"{runs[best]['name']} has the highest accuracy ({_points(_accuracy(runs[best]))}% "
            "right), but no other run has finished the same questions."
        )
    # On the questions that both finished, the other run may be ahead.
    ahead, behind = ("b", "a") if pair["difference"] > 0 else ("a", "b")
    shares = {"a": pair["a_only"] + pair["both_right"], "b": pair["b_only"] + pair["both_right"]}
    of = {side: f"{100 * right / pair['n']:.1f}%" for side, right in shares.items()}
    names = {side: runs[pair[side]]["name"] for side in "ab"}
    if pair["difference"] == 0:
        return f"{names['a']} and {names['b']} are level: {of['a']} of {_played(pair)} right."
    interval = pair["difference_ci95"]
    if interval and ahead == "a":
        interval = [-interval[1], -interval[0]]
    return (
        f"{names[ahead]} is {_points(abs(pair['difference']))} points ahead of {names[behind]}, "
        f"{of[ahead]} against {of[behind]} of {_played(pair)}, {_sure(pair, interval, len(pairs))}."
    )


def _played(pair: Mapping[str, Any]) -> str:
    return f"{pair['n']:,} {'questions' if pair['n'] == pair['n_questions'] else 'answers'}"


def _sure(pair: Mapping[str, Any], interval: Sequence[float] | None, comparisons: int) -> str:
    p = pair["p_holm"] if pair["p_holm"] is not None else pair["p"]
    if p is None or interval is None:
        return "and one video does not show whether this is chance"
    verdict = "and this is hardly chance" if p <= SIGNIFICANT else "but this can be chance"
    within = f"95% interval {_signed(interval[0])} to {_signed(interval[1])} points"
    of = f", Holm's for {comparisons} comparisons" if comparisons > 1 else ""
    return f"{verdict} ({within}; p = {format_p(p)}{of})"


def _learned(run: Run) -> str:
    """The mean reward of a training run at the start and at the end."""
    curves = run.get("curves") or {}
    means = curves.get("lines", {}).get("reward", {}).get("mean", [])
    known = [value for value in means if value is not None]
    if not known:
        return ""
    return (
        f"{run['name']}: mean reward {known[0]:.2f} at the start and {known[-1]:.2f} at step "
        f"{curves['steps'][-1]:,} (means over {curves['smooth']:,} steps)."
    )


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\u2212")
