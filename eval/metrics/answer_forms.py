"""Figures of answers without options: free text, and stretches of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.metrics.intervals import clustered_share
from longvideo_env.records.trajectory import Trajectory

THRESHOLDS = (0.3, 0.5, 0.7)
"""R@t is the share of questions with a temporal IoU of at least t."""

NAMES = {"exact_match": "exact match", "token_f1": "token F1", "iou": "temporal IoU",
         "recall": "recall of the gold time"}  # fmt: skip


def answer_figures(played: Sequence[Trajectory]) -> dict[str, Any]:
    """`answers`, with the mean and interval of each score. Empty if all questions have options.

    Args:
        played: Episodes that did not fail. An episode without an answer scores 0.

    Returns:
        By form (`words`, `when`): `n`, the number of episodes; each score of
        `longvideo_env.game.matching.answer_scores` with `NAME_ci95`, clustered by video; and for
        stretches of time `r_at`: threshold -> `share` and `ci95`.
    """
    found: dict[str, Any] = {}
    for form, first in (("words", "exact_match"), ("when", "iou")):
        mine = [t for t in played if first in t.answer_scores]
        if mine:
            found[form] = _figures(mine)
    return {"answers": found} if found else {}


def mean_with_interval(
    values: Sequence[float], episodes: Sequence[Trajectory]
) -> tuple[float, list[float] | None]:
    """The mean of values from 0 to 1, and its interval clustered by video. Samples are averaged."""
    videos, questions = [t.video_id for t in episodes], [str(t.qid) for t in episodes]
    interval = clustered_share(values, videos, questions)
    return sum(values) / len(values), None if interval is None else list(interval)


def _figures(episodes: Sequence[Trajectory]) -> dict[str, Any]:
    figures: dict[str, Any] = {"n": len(episodes)}
    for name in episodes[0].answer_scores:
        values = [float(t.answer_scores[name]) for t in episodes]
        figures[name], figures[f"{name}_ci95"] = mean_with_interval(values, episodes)
    if "iou" in figures:
        figures["r_at"] = {}
        for threshold in THRESHOLDS:
            hits = [float(t.answer_scores["iou"] >= threshold) for t in episodes]
            share, interval = mean_with_interval(hits, episodes)
            figures["r_at"][f"{threshold:g}"] = {"share": share, "ci95": interval}
    return figures


def answer_rows(summary: Mapping[str, Any]) -> list[tuple[str, float, Sequence[float] | None, int]]:
    """`(name, figure, interval, n)` of every figure of `answer_figures`, in order."""
    rows = []
    for figures in (summary.get("answers") or {}).values():
        for name, label in NAMES.items():
            if name in figures:
                rows.append((label, figures[name], figures[f"{name}_ci95"], figures["n"]))
        for threshold, one in figures.get("r_at", {}).items():
            rows.append((f"R@{threshold}", one["share"], one["ci95"], figures["n"]))
    return rows


def answer_lines(summary: Mapping[str, Any]) -> list[str]:
    """The lines under a run's table for answers without options."""
    lines = []
    for label, value, interval, n in answer_rows(summary):
        within = "no interval" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"
        lines.append(f"{label} {value:.3f} ({within}), n = {n:,}")
    return lines
