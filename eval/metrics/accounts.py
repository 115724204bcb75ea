"""Tokens, money and the tools' reports, summed over a run's episodes.

Each call counts with the tokens and money that it used when it was made. A call answered from a
recording also counts, although nobody paid for it again. `cost_once_usd` counts equal tool calls
once, like a recording.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from agents.api.usage import Usage, usage_of
from longvideo_env.records.trajectory import Trajectory, TurnRecord


class Accounts:
    """Usage by role, and the cost of a right answer. Episodes are added one at a time."""

    def __init__(self) -> None:
        self._by_role: dict[str, Usage] = {}
        self._once, self._seen = Usage(), set[bytes]()
        self._n_right = self._n_grounding = 0
        self._shortlisted = self._repaired = self._frames = 0
        self._shown = Counter[str]()

    def see(self, trajectory: Trajectory) -> None:
        """Add an episode."""
        self._n_right += bool(trajectory.correct)
        self._shown.update(trajectory.frames)
        if trajectory.judged is not None:
            for record in trajectory.judged.usage:
                self._add("judge", record)
                self._once += usage_of(record)
        for turn in _turns(trajectory):
            if turn.usage:
                self._add("master", turn.usage)
                self._once += usage_of(turn.usage)
            if turn.request is not None:
                self._n_grounding += turn.moves
                self._see_tool(trajectory.video_id, turn.request, turn.result)

    def figures(self) -> dict[str, Any]:
        """The usage of all episodes.

        Returns:
            - `usage`: by role (`master`, `judge`, or a tool's name), and `total`.
            - `cost_usd`: None unless every call's price is known.
            - `cost_once_usd`: the same, with equal tool calls counted once (same request, reply and
              usage).
            - `cost_per_correct_usd` and `tokens_per_correct`.
            - `shortlisted`: number of calls whose video did not fit the grounding agent's context.
            - `repaired`: number of calls that had to be repeated by a tool's agent.
            - `frames_sent`.
            - `frames`: sums of `Trajectory.frames`, if the master sees frames.
        """
        total = sum(self._by_role.values(), Usage())
        tokens = total.prompt_tokens + total.completion_tokens
        return {
            "usage": {
                **{role: usage.record() for role, usage in self._by_role.items() if usage.requests},
                "total": total.record(),
            },
            "cost_usd": total.cost_usd,
            "cost_once_usd": self._once.cost_usd,
            "cost_per_correct_usd": _per(total.cost_usd, self._n_right),
            "tokens_per_correct": _per(tokens, self._n_right) if total.requests else None,
            "shortlisted": {"calls": self._shortlisted, "of": self._n_grounding},
            "repaired": self._repaired,
            "frames_sent": self._frames,
            **({"frames": dict(self._shown)} if self._shown else {}),
        }

    def _see_tool(
        self, video_id: str, request: Mapping[str, Any], result: Mapping[str, Any] | None
    ) -> None:
        if result is None:
            return
        tool, details = str(request["tool"]), result.get("details") or {}
        used = self._add(tool, details)
        if used != Usage():
            call = json.dumps((video_id, request, result), sort_keys=True, default=str)
            digest = blake2b(call.encode("utf-8", "backslashreplace"), digest_size=16).digest()
            if digest not in self._seen:
                self._seen.add(digest)
                self._once += used
        if tool not in ("master", "judge"):
            self._shortlisted += "shortlisted" in details
            self._repaired += bool(details.get("repaired"))
            self._frames += int(details.get("n_frames") or 0)

    def _add(self, role: str, record: Mapping[str, Any]) -> Usage:
        used = usage_of(record)
        self._by_role[role] = self._by_role.get(role, Usage()) + used
        return used


def _turns(trajectory: Trajectory) -> Iterator[TurnRecord]:
    if trajectory.first is not None:
        yield trajectory.first
    yield from trajectory.turns


def _per(amount: float | None, n: int) -> float | None:
    return None if amount is None or not n else amount / n
