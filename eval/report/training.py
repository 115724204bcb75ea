"""The parts of the page for a training run: its curves, and its groups step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.report.folders import SavedEpisode
from longvideo_env.records.metrics_log import TrainingLog

EPSILON = 1e-4
"""The number that TRL adds to a group's standard deviation."""

SMOOTH = 10
"""The most steps of the centred mean. A short run has fewer."""
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
    """The indices of each group's episodes, by sample. A group has one step and one question."""
    groups: dict[tuple[int, str, int], list[int]] = {}
    for place, episode in enumerate(episodes):
        if episode.step is not None:
            key = (episode.step, str(episode.trajectory.qid), episode.play)
            groups.setdefault(key, []).append(place)
    for places in groups.values():
        places.sort(key=lambda place: episodes[place].trajectory.sample)
    return groups


def group_advantages(rewards: Sequence[float | None]) -> list[float | None]:
    """GRPO's advantages in a group: reward minus mean, divided by the standard deviation.

    The standard deviation is the sample's, as in TRL. An episode without a reward is left out. Its
    advantage is None here, and 0 in the update.
    """
    known = [reward for reward in rewards if reward is not None]
    if not known:
        return [None for _ in rewards]
    mean = float(np.mean(known))
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return [None if r is None else (r - mean) / (spread + EPSILON) for r in rewards]


def advantages(episodes: Sequence[SavedEpisode]) -> list[float | None]:
    """The advantage of each episode: the saved one, or else computed from its group."""
    found: list[float | None] = [None] * len(episodes)
    for places in group_places(episodes).values():
        computed = group_advantages([episodes[place].trajectory.reward for place in places])
        for place, value in zip(places, computed, strict=True):
            found[place] = episodes[place].record.get("advantage", value)
    return found


def describe_steps(episodes: Sequence[SavedEpisode], first: int) -> list[dict[str, Any]]:
    """The steps with their groups. Indices start at `first`, the run's first episode."""
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
    """The curves as numbers: the logged values, and their centred mean."""
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
