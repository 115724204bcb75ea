"""Reward: named terms with weights, computed from what happened and the gold.

Presets (LongVideoAgent, arXiv 2512.20618):

- `paper`: exact match of the answer + alpha * mean over turns of structural validity. The paper
  does not publish alpha; here it is 0.1.
- `reference`: the published code's 1.0 for the right answer + 0.2 for a reasoning block + 0.2 for
  an answer block.

A spec overrides weights by name: `paper,validity=0.2,tool_calls=-0.05`, or `paper,grounding=0.3`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from longvideo_env.errors import SpecError
from longvideo_env.game.protocol.tags import Malformed, ParsedReply
from longvideo_env.records.trajectory import Status, TurnRecord
from longvideo_env.schema import Gold

TERMS = ("answer", "validity", "reasoning_block", "answer_block", "tool_calls", "grounding")
"""Every term, before weighting. `tool_calls` counts the master's calls of tools; `grounding` is 1
if a gold clip was visited, 0 if not or if none is known, and has a weight in no preset."""

PRESETS: Mapping[str, Mapping[str, float]] = {
    "paper": {"answer": 1.0, "validity": 0.1},
    "reference": {"answer": 1.0, "reasoning_block": 0.2, "answer_block": 0.2},
}


@dataclass(frozen=True, slots=True)
class Play:
    """What happened in an episode, as far as reward and metrics need it.

    Attributes:
        status: How it ended.
        choice: Index of the option chosen, or None.
        parsed: Each reply, understood.
        turns: The record of each turn.
        visited: Clips shown.
        opened_at: Clips shown at the start.
    """

    status: Status
    choice: int | None
    parsed: Sequence[ParsedReply]
    turns: Sequence[TurnRecord]
    visited: Sequence[str] = ()
    opened_at: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """Reward and facts of one episode.

    Attributes:
        reward: Weighted sum of the terms; None if the episode failed or has no gold answer.
        terms: The terms that have a weight, unweighted; empty where `reward` is None.
        correct: Whether the choice is right; None if it failed or has no gold answer.
        grounded: Whether the gold clip was shown; None if it failed or is unknown.
        grounded_first: Whether it was shown at the start; None likewise.
    """

    reward: float | None
    terms: Mapping[str, float]
    correct: bool | None
    grounded: bool | None
    grounded_first: bool | None


@lru_cache(maxsize=64)
def parse_reward(spec: str) -> Mapping[str, float]:
    """Turn a reward spec into weights by term.

    Raises:
        SpecError: No such preset or term, or a weight that is not a number.
    """
    preset, *overrides = (part.strip() for part in spec.split(","))
    if preset not in PRESETS:
        raise SpecError(
            f"unknown reward preset {preset!r}; presets: {', '.join(PRESETS)}. Weights follow it, "
            "as in 'paper,validity=0.2'."
        )
    weights = dict(PRESETS[preset])
    for override in overrides:
        term, _, value = override.partition("=")
        if term not in TERMS:
            raise SpecError(f"unknown reward term {term!r}; terms: {', '.join(TERMS)}.")
        try:
            weights[term] = float(value)
        except ValueError as error:
            raise SpecError(
                f"the weight of reward term {term!r} must be a number, got {value!r}."
            ) from error
    return {term: weight for term, weight in weights.items() if weight}


def score(play: Play, gold: Gold, weights: Mapping[str, float]) -> Score:
    """Reward and facts of one episode. A failed episode has none: it is never a wrong answer."""
    if play.status == "failed":
        return Score(None, {}, None, None, None)
    correct = gold.is_right(play.choice)
    grounded = _any_in(gold.clip_ids, play.visited)
    grounded_first = _any_in(gold.clip_ids, play.opened_at)
    if correct is None:
        return Score(None, {}, None, grounded, grounded_first)
    values = _terms(play, correct) | {"grounding": float(grounded or False)}
    terms = {term: values[term] for term in weights}
    reward = sum(weight * terms[term] for term, weight in weights.items())
    return Score(reward, terms, correct, grounded, grounded_first)


def _any_in(clip_ids: Sequence[str], shown: Sequence[str]) -> bool | None:
    """Whether one of the gold clips was shown; None where none is known."""
    return any(clip_id in shown for clip_id in clip_ids) if clip_ids else None


def _terms(play: Play, correct: bool) -> dict[str, float]:
    replies = play.parsed
    valid = [not isinstance(reply.outcome, Malformed) for reply in replies]
    return {
        "answer": float(correct),
        "validity": sum(valid) / len(valid) if valid else 0.0,
        "reasoning_block": float(any(reply.has_reasoning for reply in replies)),
        "answer_block": float(play.status == "answered"),
        "tool_calls": float(sum(turn.request is not None for turn in play.turns)),
    }
