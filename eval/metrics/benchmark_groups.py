"""Accuracy by a benchmark's own groups, such as Video-MME's lengths or MLVU's task types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.metrics.summary import share
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.schema import Task

MAX_GROUPS = 40
"""A fact with more values than this names questions, and no groups."""


def group_shares(
    tasks: Iterable[Task], trajectories: Sequence[Trajectory]
) -> dict[str, dict[str, Any]]:
    """Fact -> `groups` (value -> n, accuracy, interval) and `mean`, which weighs groups alike.

    A question that has several values of a fact counts in each, as in LVBench. Episodes without
    a gold answer, and failed ones, are in no group. A reply without an answer is wrong, as in
    `summarize`: none is drawn.
    """
    facts = {str(task.qid): task.question.facts for task in tasks if task.question.facts}
    hits: dict[str, dict[str, list[bool]]] = {}
    for trajectory in trajectories:
        if trajectory.correct is not None and trajectory.status != "failed":
            for name, value in facts.get(str(trajectory.qid), ()):
                hits.setdefault(name, {}).setdefault(value, []).append(trajectory.correct)
    return {name: _shares(groups) for name, groups in hits.items() if len(groups) <= MAX_GROUPS}


def _shares(groups: Mapping[str, list[bool]]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for value, hits in sorted(groups.items()):
        accuracy, interval = share(hits)
        found[value] = {"n": len(hits), "accuracy": accuracy, "accuracy_ci95": interval}
    return {"groups": found, "mean": sum(g["accuracy"] for g in found.values()) / len(found)}


def group_lines(summary: Mapping[str, Any]) -> list[str]:
    """One line a fact, as they stand under a table."""
    lines = []
    for name, found in summary.get("groups", {}).items():
        if len(found["groups"]) < 2:
            continue
        parts = [
            f"{value} {group['accuracy']:.3f} (n = {group['n']:,})"
            for value, group in found["groups"].items()
        ]
        lines.append(f"by {name}: {', '.join(parts)}; mean of the groups {found['mean']:.3f}")
    return lines
