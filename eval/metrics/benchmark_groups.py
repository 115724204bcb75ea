"""Accuracy by a benchmark's own groups, such as Video-MME's lengths or MLVU's task types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from eval.metrics.summary import accuracy_of, mean_of_groups
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.schema import Task

MAX_GROUPS = 40
"""A fact with more values than this does not define groups."""


Facts: TypeAlias = Mapping[str, Sequence[Sequence[str]]]
"""`(name, value)` pairs of each question, by `str(qid)`, without questions that have no facts."""


def question_facts(tasks: Iterable[Task]) -> Facts:
    """A benchmark's facts about each question."""
    return {str(task.qid): task.question.facts for task in tasks if task.question.facts}


def group_shares(facts: Facts, trajectories: Sequence[Trajectory]) -> dict[str, dict[str, Any]]:
    """Map each fact to `groups` (value -> n, accuracy, interval), `mean` and `mean_ci95`.

    The mean gives each group the same weight, whatever its number of questions.

    A question with several values of a fact counts in each group, as in LVBench. Failed episodes
    and episodes without a gold answer are in no group. A reply without an answer is wrong, as in
    `summarize`.
    """
    labelled: dict[str, list[tuple[Trajectory, str]]] = {}
    for trajectory in trajectories:
        if trajectory.correct is not None and trajectory.status != "failed":
            for name, value in facts.get(str(trajectory.qid), ()):
                labelled.setdefault(name, []).append((trajectory, value))
    few = {name: pairs for name, pairs in labelled.items() if _n_groups(pairs) <= MAX_GROUPS}
    return {name: _shares(pairs) for name, pairs in few.items()}


def _n_groups(labelled: Sequence[tuple[Trajectory, str]]) -> int:
    return len({value for _, value in labelled})


def _shares(labelled: Sequence[tuple[Trajectory, str]]) -> dict[str, Any]:
    groups: dict[str, list[Trajectory]] = {}
    for trajectory, value in labelled:
        groups.setdefault(value, []).append(trajectory)
    found: dict[str, dict[str, Any]] = {}
    for value, episodes in sorted(groups.items()):
        accuracy, interval = accuracy_of(episodes)
        found[value] = {"n": len(episodes), "accuracy": accuracy, "accuracy_ci95": interval}
    mean = mean_of_groups(labelled)
    return {"groups": found, "mean": mean["accuracy"], "mean_ci95": mean["accuracy_ci95"]}


def group_lines(summary: Mapping[str, Any]) -> list[str]:
    """The lines under a table, one per fact."""
    lines = []
    for name, found in summary.get("groups", {}).items():
        if len(found["groups"]) < 2:
            continue
        parts = [
            f"{value} {group['accuracy']:.3f} (n = {group['n']:,})"
            for value, group in found["groups"].items()
        ]
        interval = found.get("mean_ci95")
        within = "" if interval is None else f" ({interval[0]:.3f}-{interval[1]:.3f})"
        lines.append(
            f"by {name}: {', '.join(parts)}; mean of the groups {found['mean']:.3f}{within}"
        )
    return lines
