"""What an episode cost: calls, tokens, seconds, and money where its record says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COSTS = {
    "tool_calls": "tool calls per episode",
    "tokens": "sampled tokens per episode",
    "seconds": "seconds per episode",
    "usd": "US dollars per episode",
}
"""The kinds of cost, and how an axis or a column calls them."""


@dataclass(frozen=True)
class Cost:
    """What one episode cost, or the mean over several. None is unknown.

    Attributes:
        tool_calls: Requests of the master agent; the one that opens the video is not counted.
        tokens: Tokens that the policy sampled; None for a policy without tokens.
        seconds: Model and tools together.
        usd: Money, as recorded with the episode or its calls.
    """

    tool_calls: float
    tokens: float | None
    seconds: float
    usd: float | None


def episode_cost(record: Mapping[str, Any]) -> Cost:
    """The cost of a saved episode.

    Args:
        record: A trajectory as saved; segments may carry `n_tokens` in place of their token ids.
    """
    timings = record.get("timings") or {}
    turns = record["turns"]
    sampled = _sum(_tokens(segment) for segment in record["segments"] if segment["sampled"])
    if sampled is None:  # an API tells no token ids, but how many there were
        sampled = _sum(
            _number((turn.get("usage") or {}).get("completion_tokens")) for turn in turns
        )
    return Cost(
        sum(turn.get("request") is not None for turn in turns),
        sampled,
        float(timings.get("model_s", 0.0)) + float(timings.get("tools_s", 0.0)),
        _number(record.get("cost_usd")) or _sum(_paid(record)),
    )


def mean_cost(costs: Sequence[Cost], wall_s: float | None = None) -> dict[str, float | None]:
    """The mean of each kind over the episodes of which it is known.

    Args:
        costs: Those of the episodes.
        wall_s: How long the run took. An episode's own seconds hold the whole of each batch that it
            was generated in, and waits behind others; the run's seconds count them once.
    """
    means = {kind: _mean([getattr(cost, kind) for cost in costs]) for kind in COSTS}
    return means if not wall_s or not costs else {**means, "seconds": wall_s / len(costs)}


def money_line(summary: Mapping[str, Any]) -> str:
    """What a run's models cost, as far as it is known, and whose price is not.

    Args:
        summary: A run's summary, with `usage` by role and `cost_usd`.
    """
    spent, right = summary["cost_usd"], summary["cost_per_correct_usd"]
    if spent is not None:
        once = summary["cost_once_usd"]
        saved = f" (${once:.4f} with equal tool calls counted once)" if once < spent else ""
        return f"${spent:.4f}{saved}" + ("" if right is None else f" (${right:.5f} a right answer)")
    roles = {role: used for role, used in summary["usage"].items() if role != "total"}
    known = [used["cost_usd"] for used in roles.values() if "cost_usd" in used]
    others = ", ".join(
        f"{role} ({used['requests']:,} requests)"
        for role, used in roles.items()
        if used["requests"] and "cost_usd" not in used
    )
    return (f"${sum(known):.4f} and " if known else "") + f"no price is known of: {others}"


def _tokens(segment: Mapping[str, Any]) -> float | None:
    if "n_tokens" in segment:
        return _number(segment["n_tokens"])
    ids = segment.get("token_ids")
    return None if ids is None else len(ids)


def _paid(record: Mapping[str, Any]) -> Iterator[float | None]:
    """Money named by turns, by their results, and by what an agent reported besides."""
    for turn in [record.get("first") or {}, *record["turns"]]:
        result = turn.get("result") or {}
        places = (turn, result, result.get("details") or {})
        # One of them: the same sum may be named again further in.
        yield next((paid for place in places if (paid := _number(place.get("cost_usd")))), None)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _sum(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
