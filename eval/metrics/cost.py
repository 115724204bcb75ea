"""The cost of an episode: calls, tokens, seconds, and money if its record has it."""

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
"""The kinds of cost, and their labels on an axis or a column."""


@dataclass(frozen=True)
class Cost:
    """The cost of one episode, or the mean over several. None is unknown.

    Attributes:
        tool_calls: Requests of the master agent, without the call that opens the video.
        tokens: Tokens that the policy sampled. None for a policy without tokens.
        seconds: Seconds of model and tools together.
        usd: Money, as recorded with the episode or its calls.
    """

    tool_calls: float
    tokens: float | None
    seconds: float
    usd: float | None


def episode_cost(record: Mapping[str, Any]) -> Cost:
    """The cost of a saved episode.

    Args:
        record: A saved trajectory. Segments may have `n_tokens` instead of token ids.
    """
    timings = record.get("timings") or {}
    turns = record["turns"]
    sampled = _sum(_tokens(segment) for segment in record["segments"] if segment["sampled"])
    if sampled is None:  # an API returns no token ids, but their number
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
    """The mean of each kind of cost, over the episodes with a known value.

    Args:
        costs: The costs of the episodes.
        wall_s: Seconds that the run took. An episode's own seconds include whole generation batches
            and waits for other episodes. The run's seconds count these once.
    """
    means = {kind: _mean([getattr(cost, kind) for cost in costs]) for kind in COSTS}
    return means if not wall_s or not costs else {**means, "seconds": wall_s / len(costs)}


def money_line(summary: Mapping[str, Any]) -> str:
    """The known cost of a run's models, and the roles without a known price.

    Args:
        summary: A run's summary, with `usage` by role and `cost_usd`.
    """
    spent, right = summary["cost_usd"], summary["cost_per_correct_usd"]
    if spent is not None:
        once = summary["cost_once_usd"]
        saved = f" (${once:.4f} with equal tool calls counted once)" if once < spent else ""
        each = "" if right is None else f" (${right:.5f} per right answer)"
        return f"${spent:.4f}{saved}{each}"
    roles = {role: used for role, used in summary["usage"].items() if role != "total"}
    known = [used["cost_usd"] for used in roles.values() if "cost_usd" in used]
    others = ", ".join(
        f"{role} ({used['requests']:,} requests)"
        for role, used in roles.items()
        if used["requests"] and "cost_usd" not in used
    )
    return (f"${sum(known):.4f} and " if known else "") + f"no price is known for: {others}"


def _tokens(segment: Mapping[str, Any]) -> float | None:
    if "n_tokens" in segment:
        return _number(segment["n_tokens"])
    ids = segment.get("token_ids")
    return None if ids is None else len(ids)


def _paid(record: Mapping[str, Any]) -> Iterator[float | None]:
    """The money in turns, in their results, or in the results' details."""
    for turn in [record.get("first") or {}, *record["turns"]]:
        result = turn.get("result") or {}
        places = (turn, result, result.get("details") or {})
        # Only the outermost: an inner record may repeat the same sum.
        yield next((paid for place in places if (paid := _number(place.get("cost_usd")))), None)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _sum(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
