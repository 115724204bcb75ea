"""Metrics of finished episodes.

A failed episode (a tool or the policy broke down) counts in `n_failed` and in nothing else: it is
never a wrong answer. An episode that ran out of turns or context without answering is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy.stats import binomtest

from eval.metrics.accounts import accounts
from eval.metrics.intervals import CONFIDENCE, clustered_share
from eval.metrics.samples import sample_scores
from longvideo_env.records.trajectory import Trajectory


def summarize(trajectories: Sequence[Trajectory], n_questions: int) -> dict[str, Any]:
    """Sum up a run. What has no value (accuracy without gold answers) is None, not 0.

    Args:
        trajectories: The finished episodes, failed ones among them.
        n_questions: How many were asked for.

    Returns:
        Plain values. `accuracy` and the `grounding_accuracy` pair are shares of the episodes that
        did not fail and have gold; `accuracy_ci95` is their Wilson interval, which takes episodes
        for independent, and `accuracy_ci95_clustered` one that does not: it is clustered by video
        (`intervals`); `by_show` and `by_kind` tell those with a gold answer apart by show (in
        `mini`, by kind) and by question word; `samples` has avg@n, pass@n and majority@n; usage and
        cost are those of `accounts`; `behaviour` says when tools were
        asked for; `malformed_rate` is a share of turns; `tool_calls` counts calls by tool,
        those that opened a video apart.
    """
    played = [t for t in trajectories if t.status != "failed"]
    scored = [t for t in played if t.correct is not None]
    correct = [bool(t.correct) for t in scored]
    turns = [turn for t in played for turn in t.turns]
    rewards = [t.reward for t in played if t.reward is not None]
    accuracy, interval = share(correct)
    return {
        "n_questions": n_questions,
        "n_finished": len(trajectories),
        "n_answered": sum(t.status == "answered" for t in trajectories),
        "n_failed": len(trajectories) - len(played),
        "n_scored": len(correct),
        "n_invalid_reward": sum(t.reward_error is not None for t in trajectories),
        "accuracy": accuracy,
        "accuracy_ci95": interval,
        "accuracy_ci95_clustered": _clustered(scored),
        "n_videos": len({t.video_id for t in scored}),
        "by_show": _by_show(played),
        "by_kind": _by(played, "kind"),
        "samples": sample_scores(played),
        "behaviour": _behaviour(played),
        "grounding_accuracy": _mean(_known(t.grounded for t in played)),
        "grounding_accuracy_first": _mean(_known(t.grounded_first for t in played)),
        "mean_reward": _mean(rewards),
        "mean_turns": _mean([t.n_turns for t in played]),
        "turn_histogram": _histogram(t.n_turns for t in played),
        "tool_calls": _tool_calls(trajectories),
        "malformed_rate": _mean([turn.malformed is not None for turn in turns]),
        "malformed_kinds": _histogram(turn.malformed for turn in turns if turn.malformed),
        "status": _histogram(t.status for t in trajectories),
        "errors": dict(
            Counter(e for t in trajectories if (e := t.error or t.reward_error)).most_common(10)
        ),
        "model_s": round(sum(t.timings.model_s for t in trajectories), 3),
        "tools_s": round(sum(t.timings.tools_s for t in trajectories), 3),
        **accounts(trajectories),
    }


def _by_show(played: Sequence[Trajectory]) -> dict[str, dict[str, Any]]:
    return _by(played, "show")


def _by(played: Sequence[Trajectory], name: str) -> dict[str, dict[str, Any]]:
    """The scored episodes by their show or kind of question, where it is known."""
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in played:
        group = getattr(trajectory, name)
        if group is not None and trajectory.correct is not None:
            groups.setdefault(group, []).append(trajectory)
    return {group: _one_group(episodes) for group, episodes in sorted(groups.items())}


def accuracy_interval(summary: Mapping[str, Any]) -> Sequence[float] | None:
    """The interval to show beside a summary's accuracy, at 95 %.

    It is clustered by video; Wilson's, where the summary was written before that was computed or
    where there is but one video.
    """
    interval: Sequence[float] | None = (
        summary.get("accuracy_ci95_clustered") or summary["accuracy_ci95"]
    )
    return interval


def _clustered(scored: Sequence[Trajectory]) -> list[float] | None:
    hits, videos = [bool(t.correct) for t in scored], [t.video_id for t in scored]
    interval = clustered_share(hits, videos)
    return None if interval is None else list(interval)


def _one_group(episodes: Sequence[Trajectory]) -> dict[str, Any]:
    accuracy, interval = share(_known(t.correct for t in episodes))
    return {
        "n": len(episodes),
        "accuracy": accuracy,
        "accuracy_ci95": interval,
        "called_grounding": _mean([any(turn.moves for turn in t.turns) for t in episodes]),
        "looked": _mean([any(turn.looks for turn in t.turns) for t in episodes]),
        "mean_turns": _mean([t.n_turns for t in episodes]),
    }


def _behaviour(played: Sequence[Trajectory]) -> dict[str, Any]:
    """Shares of episodes that asked for a tool, and means over episodes.

    The first clip is right if the gold clip is among those shown at the start. A question of
    `mini` that compares two clips has one of them as gold, so it may need grounding either way.
    """
    wrong = [t for t in played if t.grounded_first is False]
    right = [t for t in played if t.grounded_first is True]
    return {
        "n_first_wrong": len(wrong),
        "called_grounding_first_wrong": _mean([any(turn.moves for turn in t.turns) for t in wrong]),
        "n_first_right": len(right),
        "called_grounding_first_right": _mean([any(turn.moves for turn in t.turns) for t in right]),
        "looked": _mean([any(turn.looks for turn in t.turns) for t in played]),
        "mean_turns": _mean([t.n_turns for t in played]),
        "mean_tool_calls": _mean(
            [sum(turn.request is not None for turn in t.turns) for t in played]
        ),
    }


def _known(values: Iterable[bool | None]) -> list[bool]:
    return [value for value in values if value is not None]


def share(hits: Sequence[bool]) -> tuple[float | None, list[float] | None]:
    """The share of hits, and its Wilson interval; None where there is nothing to count."""
    if not hits:
        return None, None
    test = binomtest(sum(hits), len(hits))
    interval = test.proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return sum(hits) / len(hits), [float(interval.low), float(interval.high)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _errors(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    """The most frequent reasons why an episode failed or has no reward."""
    reasons = (t.error or t.reward_error for t in trajectories)
    return dict(Counter(reason for reason in reasons if reason).most_common(10))


def _histogram(values: Iterable[object]) -> dict[str, int]:
    return {str(key): count for key, count in sorted(Counter(values).items(), key=_by_key)}


def _by_key(item: tuple[Any, int]) -> Any:
    return item[0]


def _tool_calls(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    calls = Counter(
        str(turn.request["tool"]) for t in trajectories for turn in t.turns if turn.request
    )
    return {
        "opening": sum(t.first is not None for t in trajectories),
        **dict(sorted(calls.items())),
    }
