"""Metrics of finished episodes.

A failed episode (a tool or the policy broke down) counts in `n_failed` and in nothing else: it is
never a wrong answer. An episode that ran out of turns or context without answering is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from scipy.stats import binomtest

from longvideo_env.trajectory import Trajectory

CONFIDENCE = 0.95


def summarize(trajectories: Sequence[Trajectory], n_questions: int) -> dict[str, Any]:
    """Sum up a run. What has no value (accuracy without gold answers) is None, not 0.

    Args:
        trajectories: The finished episodes, failed ones among them.
        n_questions: How many were asked for.

    Returns:
        Plain values. `accuracy` and the `grounding_accuracy` pair are shares of the episodes that
        did not fail and have gold; `by_show` tells them apart by show (in `mini`, by kind);
        `accuracy_ci95` is their Wilson interval; `malformed_rate` is a share of turns;
        `tool_calls` counts requests by tool, those for the first clip apart.
    """
    played = [t for t in trajectories if t.status != "failed"]
    correct = [t.correct for t in played if t.correct is not None]
    turns = [turn for t in played for turn in t.turns]
    rewards = [t.reward for t in played if t.reward is not None]
    accuracy, interval = _share(correct)
    return {
        "n_questions": n_questions,
        "n_finished": len(trajectories),
        "n_answered": sum(t.status == "answered" for t in trajectories),
        "n_failed": len(trajectories) - len(played),
        "n_scored": len(correct),
        "accuracy": accuracy,
        "accuracy_ci95": interval,
        "by_show": _by_show(played),
        "grounding_accuracy": _share(_known(t.grounded for t in played))[0],
        "grounding_accuracy_first": _share(_known(t.grounded_first for t in played))[0],
        "mean_reward": _mean(rewards),
        "mean_turns": _mean([t.n_turns for t in played]),
        "turn_histogram": _histogram(t.n_turns for t in played),
        "tool_calls": _tool_calls(trajectories),
        "malformed_rate": _mean([turn.malformed is not None for turn in turns]),
        "malformed_kinds": _histogram(turn.malformed for turn in turns if turn.malformed),
        "status": _histogram(t.status for t in trajectories),
        "errors": dict(Counter(t.error for t in trajectories if t.error).most_common(10)),
        "model_s": round(sum(t.timings.model_s for t in trajectories), 3),
        "tools_s": round(sum(t.timings.tools_s for t in trajectories), 3),
    }


def _by_show(played: Sequence[Trajectory]) -> dict[str, dict[str, Any]]:
    shows: dict[str, list[bool]] = {}
    for trajectory in played:
        if trajectory.show is not None and trajectory.correct is not None:
            shows.setdefault(trajectory.show, []).append(trajectory.correct)
    return {
        show: {"n": len(hits), "accuracy": sum(hits) / len(hits)}
        for show, hits in sorted(shows.items())
    }


def _known(values: Iterable[bool | None]) -> list[bool]:
    return [value for value in values if value is not None]


def _share(hits: Sequence[bool]) -> tuple[float | None, list[float] | None]:
    if not hits:
        return None, None
    test = binomtest(sum(hits), len(hits))
    interval = test.proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return sum(hits) / len(hits), [float(interval.low), float(interval.high)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _histogram(values: Iterable[object]) -> dict[str, int]:
    return {str(key): count for key, count in sorted(Counter(values).items(), key=_by_key)}


def _by_key(item: tuple[Any, int]) -> Any:
    return item[0]


def _tool_calls(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    calls = Counter(
        str(turn.request["kind"]) for t in trajectories for turn in t.turns if turn.request
    )
    return {
        "first_grounding": sum(t.first is not None for t in trajectories),
        "grounding": calls["grounding"],
        "vision": calls["vision"],
    }
