"""Metrics of finished episodes.

A failed episode (a tool or the policy failed) counts only in `n_failed`, never as a wrong answer.
An episode that ran out of turns or context without an answer is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.metrics.answer_forms import answer_figures
from eval.metrics.gathered import Gathered
from eval.metrics.intervals import clustered_share
from eval.metrics.judge_agreement import judge_figures
from eval.metrics.samples import sample_scores
from longvideo_env.records.trajectory import Trajectory


def summarize(episodes: Iterable[Trajectory] | Gathered, n_questions: int) -> dict[str, Any]:
    """Compute the figures of a run. A figure without a value is None, not 0.

    Args:
        episodes: The finished episodes, with failed ones.
        n_questions: Number of requested questions.

    Returns:
        Plain values:

        - `accuracy`, `grounding_accuracy` and `grounding_accuracy_first`: shares of the episodes
          that did not fail and have gold.
        - `accuracy_ci95`: its interval, clustered by video (`intervals`). None with one video.
        - `by_show` and `by_kind`: scored episodes by show (in `mini`, by kind) and by question
          word. `mean_of_shows` and `mean_of_kinds` give these groups equal weight.
        - `samples`: the figures of several samples per question (`samples`).
        - Usage and cost, from `Accounts`.
        - `behaviour`: how often and when tools were used.
        - `malformed_rate`: a share of turns.
        - `tool_calls`: calls by tool. Calls that opened a video are counted as `opening`.
        - `answers`: the scores of answers without options (`answer_forms`).
        - `judge`: the figures of a judge (`judge_agreement`).
    """
    gathered = episodes if isinstance(episodes, Gathered) else Gathered(episodes)
    trajectories = gathered.episodes
    played = [t for t in trajectories if t.status != "failed"]
    scored = [t for t in played if t.correct is not None]
    correct = [bool(t.correct) for t in scored]
    turns = [turn for t in played for turn in t.turns]
    rewards = [t.reward for t in played if t.reward is not None]
    accuracy, interval = accuracy_of(scored)
    return {
        "n_questions": n_questions,
        "n_finished": len(trajectories),
        "n_answered": sum(t.status == "answered" for t in trajectories),
        "n_failed": len(trajectories) - len(played),
        "n_scored": len(correct),
        "n_invalid_reward": sum(t.reward_error is not None for t in trajectories),
        "accuracy": accuracy,
        "accuracy_ci95": interval,
        "n_videos": len({t.video_id for t in scored}),
        "by_show": _by(played, "show"),
        "by_kind": _by(played, "kind"),
        "mean_of_shows": mean_of_groups([(t, str(t.show)) for t in scored if t.show is not None]),
        "mean_of_kinds": mean_of_groups([(t, str(t.kind)) for t in scored if t.kind is not None]),
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
        "model_s": round(gathered.model_s, 3),
        "tools_s": round(gathered.tools_s, 3),
        **gathered.accounts.figures(),
        **answer_figures(played),
        **judge_figures(played),
    }


def _by(played: Sequence[Trajectory], name: str) -> dict[str, dict[str, Any]]:
    """The scored episodes by show or kind of question, if it is known."""
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in played:
        group = getattr(trajectory, name)
        if group is not None and trajectory.correct is not None:
            groups.setdefault(group, []).append(trajectory)
    return {group: _one_group(episodes) for group, episodes in sorted(groups.items())}


def accuracy_interval(summary: Mapping[str, Any]) -> Sequence[float] | None:
    """The 95 % interval of a summary's accuracy, clustered by video.

    None with one video, and for a summary of an earlier release, whose intervals were too narrow.
    `longvideo-env rescore` computes such intervals again.
    """
    if "n_videos" not in summary or "accuracy_ci95_clustered" in summary:
        return None
    interval: Sequence[float] | None = summary["accuracy_ci95"]
    return interval


def accuracy_of(
    scored: Sequence[Trajectory], weights: Sequence[float] | None = None
) -> tuple[float | None, list[float] | None]:
    """The share of right episodes, and its interval, clustered by video.

    Args:
        scored: Episodes with a gold answer that did not fail.
        weights: The weight of each episode. By default all weights are equal.
    """
    return clustered([bool(t.correct) for t in scored], scored, weights)


def clustered(
    hits: Sequence[bool],
    episodes: Sequence[Trajectory],
    weights: Sequence[float] | None = None,
) -> tuple[float | None, list[float] | None]:
    """The share of episodes that are hits, and its interval, clustered by video.

    The share is None without episodes. The interval is None with one video.
    """
    if not hits:
        return None, None
    each = [1.0] * len(hits) if weights is None else weights
    videos, questions = [t.video_id for t in episodes], [str(t.qid) for t in episodes]
    interval = clustered_share(hits, videos, questions, weights)
    share = sum(w for hit, w in zip(hits, each, strict=True) if hit) / sum(each)
    return share, None if interval is None else list(interval)


def mean_of_groups(labelled: Sequence[tuple[Trajectory, str]]) -> dict[str, Any]:
    """The accuracy with equal weight for each group, whatever its number of questions.

    Args:
        labelled: Scored episodes with their groups. An episode may be in several groups.
    """
    sizes = Counter(label for _, label in labelled)
    weights = [1 / sizes[label] for _, label in labelled]
    accuracy, interval = accuracy_of([t for t, _ in labelled], weights)
    return {"n_groups": len(sizes), "accuracy": accuracy, "accuracy_ci95": interval}


def _one_group(episodes: Sequence[Trajectory]) -> dict[str, Any]:
    accuracy, interval = accuracy_of(episodes)
    return {
        "n": len(episodes),
        "accuracy": accuracy,
        "accuracy_ci95": interval,
        "called_grounding": _mean([any(turn.moves for turn in t.turns) for t in episodes]),
        "looked": _mean([any(turn.looks for turn in t.turns) for t in episodes]),
        "mean_turns": _mean([t.n_turns for t in episodes]),
    }


def _behaviour(played: Sequence[Trajectory]) -> dict[str, Any]:
    """Shares of episodes that used a tool, and means over episodes.

    The first clip is right if the gold clip is among those shown at the start. If a question of
    `mini` compares two clips, only one of them is gold, so it may need grounding in any case.
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


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


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
