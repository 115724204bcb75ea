"""Budgets of a run and of an episode, and the share of failures that stops a run early.

    --budget-usd 5 --budget-tokens 2000000 --budget-seconds 3600       of the whole run
    --episode-budget-usd 0.05 --episode-budget-tokens 20000            of each episode
    --episode-budget-seconds 120
    --fail-above 0.1

A run's budget counts all its episodes, with those of earlier sessions. No further episode starts if
the unfinished ones are expected to use up the rest. Started episodes are finished. An episode that
exceeds its tokens or money ends without an answer and is wrong. An episode that exceeds its seconds
has failed, because a slow server is not a wrong answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from agents.api.usage import usage_of
from longvideo_env.errors import SpecError
from longvideo_env.records.trajectory import Segment, Trajectory, TurnRecord

T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """Limits of usage. None is no limit.

    Attributes:
        tokens: Tokens of requests and replies, of the master and of tools. For a local model only
            the sampled tokens.
        seconds: Wall-clock seconds.
        usd: US dollars.

    Raises:
        SpecError: A value is not above 0.
    """

    tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise SpecError(f"a budget of {item.name} must be a number above 0, got {value!r}.")

    def record(self) -> dict[str, Any]:
        """The limits that are set."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}


@dataclass(frozen=True)
class Spent:
    """The usage so far.

    Attributes:
        tokens: Tokens.
        usd: US dollars, for replies with a known price.
        unpriced: Number of replies without a known price.
    """

    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.tokens + other.tokens, self.usd + other.usd, self.unpriced + other.unpriced
        )


def spent_in(
    first: TurnRecord | None, turns: Sequence[TurnRecord], segments: Sequence[Segment]
) -> Spent:
    """The usage of an episode. Replies from a recording count like new ones."""
    total = Spent()
    for turn in (*([first] if first else []), *turns):
        details = (turn.result or {}).get("details") or {}
        total += _spent(turn.usage or {}) + _spent(details)
    if not total.tokens:
        total += Spent(sum(len(s.token_ids or ()) for s in segments if s.sampled))
    return total


def _spent(record: Mapping[str, Any]) -> Spent:
    used = usage_of(record)
    unpriced = bool(used.requests) and used.cost_usd is None
    return Spent(used.prompt_tokens + used.completion_tokens, used.cost_usd or 0.0, int(unpriced))


def spent_by(trajectory: Trajectory) -> Spent:
    """The usage of a finished episode."""
    judged = trajectory.judged.usage if trajectory.judged is not None else ()
    spent = spent_in(trajectory.first, trajectory.turns, trajectory.segments)
    return sum(map(_spent, judged), spent)


class EpisodeLimit:
    """Checks whether an episode has used up its tokens or its money.

    Args:
        budget: The budget of an episode.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def __call__(
        self,
        first: TurnRecord | None,
        turns: Sequence[TurnRecord],
        segments: Sequence[Segment],
    ) -> bool:
        """Whether the budget is used up, so that no further turn may be played."""
        limit = self.budget
        if limit.tokens is None and limit.usd is None:
            return False
        spent = spent_in(first, turns, segments)
        over_tokens = limit.tokens is not None and spent.tokens >= limit.tokens
        return over_tokens or (limit.usd is not None and spent.usd >= limit.usd)


class SpendingWatch:
    """Lets episodes start while a run's budget lasts.

    Args:
        budget: The budget of the run.
        kept: Episodes that earlier sessions finished.
        earlier: `summary.json` of the last session. It also counts failed episodes, which cost
            money but are not kept.

    Attributes:
        reason: Why no further episode was started, or None.
        spent: The usage of all sessions. `unpriced` counts only this session.
    """

    def __init__(
        self, budget: Budget, kept: Iterable[Trajectory], earlier: Mapping[str, Any]
    ) -> None:
        self.budget = budget
        self.reason: str | None = None
        self.spent, self._finished, self._under_way = Spent(), 0, 0
        self._start = time.perf_counter() - float(earlier.get("wall_s") or 0.0)
        for trajectory in kept:
            self._count(trajectory)
        noted = Spent(**(earlier.get("spent") or {}))
        # Prices may have been added since. Earlier unpriced replies do not stop this session.
        self._unpriced_before = max(noted.unpriced, self.spent.unpriced)
        self.spent = Spent(max(noted.tokens, self.spent.tokens), max(noted.usd, self.spent.usd))

    def admit(self, jobs: Iterable[T]) -> Iterator[T]:
        """Yield jobs until the budget is used up."""
        for job in jobs:
            self.reason = self._reached()
            if self.reason is not None:
                return
            self._under_way += 1
            yield job

    def see(self, trajectory: Trajectory) -> None:
        """Count a finished episode."""
        self._under_way -= 1
        self._count(trajectory)

    def record(self) -> dict[str, Any]:
        """The usage of all sessions, in plain values."""
        return asdict(self.spent + Spent(unpriced=self._unpriced_before))

    def _count(self, trajectory: Trajectory) -> None:
        self._finished += 1
        self.spent += spent_by(trajectory)

    def _reached(self) -> str | None:
        limit, spent = self.budget, self.spent
        # Unfinished episodes, and the next one, are expected to cost the mean.
        more = (self._under_way + 1) / self._finished if self._finished else 0.0
        if limit.usd is not None and spent.unpriced:
            return (
                f"--budget-usd {limit.usd:g} cannot be checked: the price of {spent.unpriced:,} "
                "replies is not known. Fix: add the model to the table of prices "
                "(LONGVIDEO_PRICES), or give --budget-tokens"
            )
        if limit.usd is not None and spent.usd * (1 + more) > limit.usd:
            return f"--budget-usd {limit.usd:g} is used up: ${spent.usd:.4f} were spent"
        if limit.tokens is not None and spent.tokens * (1 + more) > limit.tokens:
            return f"--budget-tokens {limit.tokens} is used up: {spent.tokens:,} were used"
        seconds = time.perf_counter() - self._start
        if limit.seconds is not None and seconds >= limit.seconds:
            return f"--budget-seconds {limit.seconds:g} is used up: the run took {seconds:.0f} s"
        return None
