"""Tokens, money and what tools reported, summed up over a run's episodes.

What is counted is what each episode's calls used when they were made. A call that a recording
answered counts here as well, though nobody paid for it again; `cost_once_usd` counts equal tool
calls once, as a recording does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.api.usage import Usage, usage_of
from longvideo_env.records.trajectory import Trajectory, TurnRecord


def accounts(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Usage by role, and what a right answer cost.

    Returns:
        `usage`: by role (`master`, `judge`, or a tool's name), and `total`; `cost_usd`, None unless
        every call's price is known; `cost_once_usd`, the same with equal tool calls counted once
        (same request, reply and usage); `cost_per_correct_usd` and `tokens_per_correct`;
        `shortlisted`: how often a video did not fit the grounding agent's context; `repaired`: how
        often that agent had to be asked again; `frames_sent`; and where the master sees, `frames`
        as in `Trajectory.frames`, summed up.
    """
    by_role: dict[str, Usage] = {}
    for role, record in _records(trajectories):
        by_role[role] = by_role.get(role, Usage()) + usage_of(record)
    total = sum(by_role.values(), Usage())
    tokens = total.prompt_tokens + total.completion_tokens
    n_right = sum(bool(t.correct) for t in trajectories)
    tools = [(r, record) for r, record in _records(trajectories) if r not in ("master", "judge")]
    details = [record for _, record in tools]
    return {
        "usage": {
            **{role: usage.record() for role, usage in by_role.items() if usage.requests},
            "total": total.record(),
        },
        "cost_usd": total.cost_usd,
        "cost_once_usd": sum(_once(trajectories), Usage()).cost_usd,
        "cost_per_correct_usd": _per(total.cost_usd, n_right),
        "tokens_per_correct": _per(tokens, n_right) if total.requests else None,
        "shortlisted": {
            "calls": sum("shortlisted" in record for record in details),
            "of": _n_grounding(trajectories),
        },
        "repaired": sum(bool(record.get("repaired")) for record in details),
        "frames_sent": sum(int(record.get("n_frames") or 0) for record in details),
        **({"frames": dict(seen)} if (seen := _frames(trajectories)) else {}),
    }


def _frames(trajectories: Sequence[Trajectory]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for trajectory in trajectories:
        counted.update(trajectory.frames)
    return counted


def _once(trajectories: Sequence[Trajectory]) -> Iterator[Usage]:
    """What the replies used, and each tool call that differs from those before it."""
    seen: set[str] = set()
    for trajectory in trajectories:
        if trajectory.judged is not None:
            yield from map(usage_of, trajectory.judged.usage)
        for turn in _turns(trajectory):
            if turn.usage:
                yield usage_of(turn.usage)
            if turn.request is not None and turn.result is not None:
                call = (trajectory.video_id, turn.request, turn.result)
                key = json.dumps(call, sort_keys=True, default=str)
                if key not in seen:
                    seen.add(key)
                    yield usage_of(turn.result.get("details") or {})


def _records(trajectories: Sequence[Trajectory]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What each reply and each tool call used, by role."""
    for trajectory in trajectories:
        if trajectory.judged is not None:
            for record in trajectory.judged.usage:
                yield "judge", record
        for turn in _turns(trajectory):
            if turn.usage:
                yield "master", turn.usage
            if turn.request is not None and turn.result is not None:
                yield str(turn.request["tool"]), turn.result.get("details") or {}


def _turns(trajectory: Trajectory) -> Iterator[TurnRecord]:
    if trajectory.first is not None:
        yield trajectory.first
    yield from trajectory.turns


def _n_grounding(trajectories: Sequence[Trajectory]) -> int:
    return sum(
        turn.request is not None and turn.moves
        for trajectory in trajectories
        for turn in _turns(trajectory)
    )


def _per(amount: float | None, n: int) -> float | None:
    return None if amount is None or not n else amount / n
