"""The figures at the top of the page, computed by `eval.metrics`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

from eval.metrics.answer_forms import answer_lines
from eval.metrics.cost import episode_cost, mean_cost
from eval.metrics.intervals import few_videos
from eval.metrics.judge_agreement import judge_lines
from eval.metrics.pairs import add_holm, count, differences, match, n_left_out
from eval.metrics.summary import accuracy_of, clustered, summarize
from eval.output.comparisons import power_lines
from eval.report.asked import MINI, needs_look
from eval.report.folders import SavedEpisode, Source
from longvideo_env.errors import SpecError
from longvideo_env.records.trajectory import Trajectory

MAX_PAIRS = 45
"""The most comparisons of two runs on one page, enough for ten runs."""

FEWEST = 10
"""With fewer questions than this, the accuracy of a part is not shown."""

Played = tuple[Trajectory, dict[str, Any]]
"""An episode with its question's record."""

_CONFIG_SHOWN = (
    *("dataset", "split", "seed", "grounding", "ground_action", "vision", "max_turns", "window"),
    *(
        "instructions",
        "protocol",
        "tags",
        "reward",
        "ask",
        "labels",
        "judge",
        "shuffle_options",
        "temperature",
        "max_turn_tokens",
    ),
)


def describe_run(
    source: Source, questions: Sequence[dict[str, Any]], notes: Iterable[str]
) -> dict[str, Any]:
    """The overview of one run.

    Args:
        source: The run.
        questions: The question of each of its episodes, in their order.
        notes: Notes for the reader.
    """
    trajectories = source.trajectories
    summary = summarize(trajectories, len(trajectories)) if trajectories else {}
    saved = {k: v for k, v in source.summary.items() if k not in summary}
    played = [(t, q) for t, q in zip(trajectories, questions, strict=True) if t.status != "failed"]
    return {
        "name": source.name,
        "kind": source.kind,
        "policy": str(source.config.get("policy") or _policy(trajectories)),
        "config": {k: source.config[k] for k in _CONFIG_SHOWN if k in source.config},
        "oracle": source.config.get("grounding") == "oracle",
        "leaky": bool(source.summary.get("leaky") or source.config.get("unsafe_boxes")),
        "summary": summary,
        "saved": _plain(saved),
        "cost": _cost(source.episodes, source.summary.get("wall_s")),
        "parts": _parts(played),
        "histograms": _histograms(played),
        "calibration": _calibration(played),
        "notes": [
            *source.notes,
            *notes,
            *_few(summary),
            *answer_lines(summary),
            *judge_lines(summary),
        ],
    }


def describe_pairs(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Compare each two evaluations on the questions that both finished. p is Holm's for all."""
    runs = [(i, s.as_run()) for i, s in enumerate(sources) if s.kind == "evaluation"]
    pairs = []
    for (i, a), (j, b) in list(combinations(runs, 2))[:MAX_PAIRS]:
        try:
            matched = match(a, b)
        except SpecError:  # no questions in common
            continue
        found = {"a": i, "b": j, "left_out": n_left_out(a, b, matched), **count(matched)}
        found["differ"] = [
            f"{key}: {mine!r} against {theirs!r}"
            for key, (mine, theirs) in differences(a, b).items()
        ]
        pairs.append(found)
    add_holm(pairs)
    for pair in pairs:
        note = few_videos(pair["n_videos"])
        pair["lines"] = [*([note] if note else []), *power_lines(pair)]
    return pairs


def _few(summary: dict[str, Any]) -> list[str]:
    note = few_videos(summary.get("n_videos", 0)) if summary.get("n_scored") else None
    return [note] if note else []


def _policy(trajectories: Sequence[Trajectory]) -> str:
    return trajectories[0].policy if trajectories else "unknown"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers, short texts and pairs of numbers. Nested values are left out."""
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, bool | int | float | str)
        or (isinstance(value, list) and len(value) == 2)
    }


def _cost(episodes: Sequence[SavedEpisode], wall_s: Any) -> dict[str, float | None]:
    costs = [episode_cost(episode.record) for episode in episodes]
    cost = mean_cost(costs, wall_s)
    right = sum(episode.trajectory.correct is True for episode in episodes)
    for kind in ("usd", "tokens"):
        known = [value for c in costs if (value := getattr(c, kind)) is not None]
        cost[f"{kind}_per_right"] = sum(known) / right if known and right else None
    return cost


def _parts(played: Sequence[Played]) -> dict[str, list[dict[str, Any]]]:
    """Accuracy by part: kind, show, turns, requested evidence, gold clip."""
    keys: dict[str, Callable[[Played], str | None]] = {
        "question kind": lambda p: str(p[1]["kind"]),
        "show": lambda p: str(p[1]["show"]),
        "turns": lambda p: str(p[0].n_turns),
        "evidence asked for": lambda p: _evidence(p[0]),
        "gold clip": lambda p: _gold(p[0]),
    }
    return {name: _accuracy_by(played, key) for name, key in keys.items()}


def _accuracy_by(
    played: Sequence[Played], key: Callable[[Played], str | None]
) -> list[dict[str, Any]]:
    groups: dict[str, list[Trajectory]] = {}
    for one in played:
        label = key(one)
        if label is not None and one[0].correct is not None:
            groups.setdefault(label, []).append(one[0])
    rows = []
    for label, episodes in groups.items():
        accuracy, interval = accuracy_of(episodes)
        rows.append({"label": label, "n": len(episodes), "accuracy": accuracy, "ci": interval})
    return sorted(rows, key=lambda row: _natural(str(row["label"])))


def _natural(label: str) -> tuple[int, str]:
    return (int(label), "") if label.isdecimal() else (-1, label)


def _evidence(played: Trajectory) -> str:
    names = [
        name for name, moves in (("grounding", True), ("vision", False)) if _count(played, moves)
    ]
    return " and ".join(names) or "neither"


def _gold(played: Trajectory) -> str | None:
    if played.grounded is None:
        return None
    if played.grounded_first:
        return "shown at the start"
    return "found later" if played.grounded else "never shown"


def _histograms(played: Sequence[Played]) -> dict[str, list[list[Any]]]:
    """Histograms: episodes by number of calls, without gaps, and malformed turns by kind."""
    runs = [t for t, _ in played]
    calls = {
        "turns": Counter(t.n_turns for t in runs),
        "looks": Counter(_count(t, moves=False) for t in runs),
        "groundings": Counter(_count(t, moves=True) for t in runs),
        "clips seen": Counter(len(t.visited) for t in runs),
    }
    filled = {
        name: [[n, counts[n]] for n in range(min(counts), max(counts) + 1)]
        for name, counts in calls.items()
        if counts
    }
    bad = Counter(turn.malformed for t in runs for turn in t.turns if turn.malformed)
    ends = Counter(t.status for t in runs)
    return {
        **filled,
        "malformed turns": [[k, n] for k, n in bad.most_common()],
        "how they ended": [[k.replace("_", " "), n] for k, n in ends.most_common()],
    }


def _count(played: Trajectory, moves: bool) -> int:
    return sum(turn.moves if moves else turn.looks for turn in played.turns)


def _calibration(played: Sequence[Played]) -> list[dict[str, Any]]:
    """Compare when a tool was used with when it was needed.

    Grounding was needed if the gold clip was not among those shown at the start. Whether looking
    was needed is known from the kind of a question in `mini`. If the gold clip is known, the row
    also has the share of looks that could see it.
    """
    groups = [
        ("grounding", True, "the first clip was wrong", _first_is(played, False)),
        ("grounding", False, "the first clip was right", _first_is(played, True)),
        ("looking", True, "the answer is to be seen", _looks_needed(played, True)),
        ("looking", False, "the answer is to be heard", _looks_needed(played, False)),
        ("looking", None, "not known if it had to", _looks_needed(played, None)),
    ]
    return [_calibrated(*group) for group in groups if group[3]]


def _first_is(played: Sequence[Played], right: bool) -> list[Played]:
    return [one for one in played if one[0].grounded_first is right]


def _looks_needed(played: Sequence[Played], needed: bool | None) -> list[Played]:
    return [
        (t, q)
        for t, q in played
        if needs_look(q["kind"], MINI if q["show"] == "mini" else None) is needed
    ]


def _calibrated(
    tool: str, needed: bool | None, why: str, group: Sequence[Played]
) -> dict[str, Any]:
    moves = tool == "grounding"
    asked = [(_count(t, moves) > 0, t.correct) for t, _ in group]
    rate, interval = clustered([did for did, _ in asked], [t for t, _ in group])
    row: dict[str, Any] = {"tool": tool, "needed": needed, "why": why, "n": len(group)}
    row |= {"asked": rate, "ci": interval}
    for name, wanted in (("right_if_asked", True), ("right_if_not", False)):
        row[name] = _mean([c for did, c in asked if did is wanted and c is not None])
    if not moves:
        row["on_gold"] = _mean(_looks_on_gold(group))
    return row


def _mean(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _looks_on_gold(group: Sequence[Played]) -> list[bool]:
    """For each look, whether the gold clip was in view."""
    return [
        q["gold"] in (turn.request or {}).get("view", ())
        for t, q in group
        if q["gold"] is not None
        for turn in t.turns
        if turn.looks and turn.request
    ]
