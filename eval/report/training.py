"""What a training run adds to the page: its curves, and its groups step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.report.folders import SavedEpisode
from longvideo_env.records.metrics_log import TrainingLog

EPSILON = 1e-4
"""What TRL adds to a group's standard deviation before dividing by it."""

SMOOTH = 10
"""Steps of the centred mean; fewer where there are few."""
CURVES = {
    "reward": "reward",
    "episodes/accuracy": "accuracy",
    "episodes/turns": "turns",
    "episodes/grounding_calls": "grounding",
    "episodes/vision_calls": "vision",
    "episodes/malformed": "malformed",
    "groups/without_signal": "groups without signal",
}
MAX_POINTS = 1500


def group_places(episodes: Sequence[SavedEpisode]) -> dict[tuple[int, str, int], list[int]]:
    """The places of each group's episodes: those of one step and question, by sample."""
    groups: dict[tuple[int, str, int], list[int]] = {}
    for place, episode in enumerate(episodes):
        if episode.step is not None:
            key = (episode.step, str(episode.trajectory.qid), episode.play)
            groups.setdefault(key, []).append(place)
    for places in groups.values():
        places.sort(key=lambda place: episodes[place].trajectory.sample)
    return groups


def group_advantages(rewards: Sequence[float | None]) -> list[float | None]:
    """GRPO's advantages in a group: the reward less the mean, over the standard deviation.

    The standard deviation is the sample's, as TRL's is. An episode without a reward takes no part:
    its advantage is None here, and 0 in the update.
    """
    known = [reward for reward in rewards if reward is not None]
    if not known:
        return [None for _ in rewards]
    mean = float(np.mean(known))
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return [None if r is None else (r - mean) / (spread + EPSILON) for r in rewards]


def advantages(episodes: Sequence[SavedEpisode]) -> list[float | None]:
    """The advantage of each episode: as saved with it, or else computed from its group."""
    found: list[float | None] = [None] * len(episodes)
    for places in group_places(episodes).values():
        computed = group_advantages([episodes[place].trajectory.reward for place in places])
        for place, value in zip(places, computed, strict=True):
            found[place] = episodes[place].record.get("advantage", value)
    return found


def describe_steps(episodes: Sequence[SavedEpisode], first: int) -> list[dict[str, Any]]:
    """The steps with their groups; places count from `first`, where the run's episodes begin."""
    steps: dict[int, list[dict[str, Any]]] = {}
    for (step, qid, _), places in group_places(episodes).items():
        rewards = [episodes[place].trajectory.reward for place in places]
        known = [reward for reward in rewards if reward is not None]
        group = {
            "qid": qid,
            "episodes": [first + place for place in places],
            "mean": float(np.mean(known)) if known else None,
            "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        }
        steps.setdefault(step, []).append(group)
    return [{"step": step, "groups": groups} for step, groups in sorted(steps.items())]


def describe_curves(curves: TrainingLog | None) -> dict[str, Any] | None:
    """The curves as numbers: as logged, and their centred mean over some steps."""
    if curves is None:
        return None
    every = max(1, math.ceil(len(curves.steps) / MAX_POINTS))
    smooth = max(1, min(SMOOTH, len(curves.steps) // 3))
    lines = {
        label: {
            "raw": _numbers(curves.columns[key][::every]),
            "mean": _numbers(curves.mean(key, smooth)[::every]),
        }
        for key, label in CURVES.items()
        if curves.has(key)
    }
    if curves.has("reward_std"):
        lines["reward"]["std"] = _numbers(curves.mean("reward_std", smooth)[::every])
    return {"steps": curves.steps[::every].tolist(), "smooth": smooth, "lines": lines}


def _numbers(values: Any) -> list[float | None]:
    return [round(float(v), 5) if math.isfinite(v) else None for v in values]
