"""Reward: weighted terms, computed from the play and the gold.

A term is a function `(play, gold) -> float | None`, sync or async. A term that returns None is left
out for this episode. If a term raises, the episode has no reward: it is kept and counted, but not
used for training, and its reward is never 0. Terms are given as `module:attribute`, or by name
through the entry points `longvideo_env.terms`.

Presets (LongVideoAgent, arXiv 2512.20618):

- `paper`: exact match of the answer + alpha * mean over turns of structural validity. The paper
  does not publish alpha; here it is 0.1.
- `reference`: the published code's 1.0 for the right answer + 0.2 for a reasoning block + 0.2 for
  an answer block.

Games may define their own presets: mappings of term to weight, found through the entry points
`longvideo_env.rewards`, or as `module:attribute`.

The term `answer` is exact match for questions with options. For a free-text answer it is the
judge's verdict, or exact match without a judge. For an answer to "when?" it is the temporal IoU.

Weights follow the preset: `paper,validity=0.2,tool_calls=-0.05`, or `paper,my_parts:thrift=0.5`.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from longvideo_env.config import WORDS
from longvideo_env.errors import SpecError
from longvideo_env.game.matching import RIGHT_FROM_IOU, answer_scores
from longvideo_env.game.protocol.base import Malformed, ParsedReply
from longvideo_env.records.trajectory import Judged, Status, TurnRecord
from longvideo_env.schema import Gold
from longvideo_env.specs import entry_point_names, find_part, is_attribute
from longvideo_env.sync import run_blocking

JUDGE_FAILED = "the judge failed"

PRESETS: Mapping[str, Mapping[str, float]] = {
    "paper": {"answer": 1.0, "validity": 0.1},
    "reference": {"answer": 1.0, "reasoning_block": 0.2, "answer_block": 0.2},
}


@dataclass(frozen=True, slots=True)
class Play:
    """The facts of an episode that reward and metrics use.

    Attributes:
        status: How it ended.
        choice: Index of the option chosen, or None.
        parsed: Each reply, parsed.
        turns: The record of each turn.
        visited: Clips shown.
        opened_at: Clips shown at the start.
        replies: The master's replies, turn by turn.
        said: The answer to a question without options, as parsed; otherwise None.
        judged: The judge's verdict on the answer, if a judge was asked.
        ask: See `Question.ask`.
    """

    status: Status
    choice: int | None
    parsed: Sequence[ParsedReply]
    turns: Sequence[TurnRecord]
    visited: Sequence[str] = ()
    opened_at: Sequence[str] = ()
    replies: Sequence[str] = ()
    said: str | None = None
    judged: Judged | None = None
    ask: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Reward and facts of one episode.

    Attributes:
        reward: Weighted sum of the terms. None if the episode failed, has no gold answer, or a term
            raised.
        terms: Unweighted values of the terms that have a weight. Empty if `reward` is None.
        correct: Whether the answer is right. None if the episode failed or has no gold answer. For
            free text: the judge's verdict (None if the judge failed), or exact match without a
            judge. A stretch of time is right from a temporal IoU of 0.5.
        grounded: Whether the gold clip was shown. None if the episode failed or the clip is
            unknown.
        grounded_first: Whether the gold clip was shown at the start. None in the same cases.
        error: The term that raised, with its error; or why the judge failed.
        answer: Scores of an answer without options, by the names of `game.matching.answer_scores`.
            Empty if there are options.
    """

    reward: float | None
    terms: Mapping[str, float]
    correct: bool | None
    grounded: bool | None
    grounded_first: bool | None
    error: str | None = None
    answer: Mapping[str, float] = field(default_factory=dict)


Term: TypeAlias = Callable[[Play, Gold], "float | Awaitable[float | None] | None"]


def _share_valid(play: Play, _: Gold) -> float:
    valid = [not isinstance(reply.outcome, Malformed) for reply in play.parsed]
    return sum(valid) / len(valid) if valid else 0.0


def _answer(play: Play, gold: Gold) -> float:
    if gold.answer is not None:
        return float(play.choice == gold.answer)
    if gold.when:
        return answer_scores(play.said, gold)["iou"]
    return float(_is_right(play, gold) or False)


def _in_form(name: str) -> Callable[[Play, Gold], float | None]:
    """A term for one of the answer's scores. It is None if the question has another form."""
    return lambda play, gold: answer_scores(play.said, gold).get(name)


def _verdict(play: Play, _: Gold) -> float | None:
    judged = play.judged
    return None if judged is None or judged.right is None else float(judged.right)


TERMS: Mapping[str, Term] = {
    "answer": _answer,
    "exact_match": _in_form("exact_match"),
    "token_f1": _in_form("token_f1"),
    "iou": _in_form("iou"),
    "recall": _in_form("recall"),
    "judge": _verdict,
    "validity": _share_valid,
    "reasoning_block": lambda play, _: float(any(reply.has_reasoning for reply in play.parsed)),
    "answer_block": lambda play, _: float(play.status == "answered"),
    "tool_calls": lambda play, _: float(sum(turn.request is not None for turn in play.turns)),
    "grounding": lambda play, gold: float(_any_in(gold.clip_ids, play.visited) or False),
}
"""The built-in terms. `tool_calls` is the number of tool calls. `grounding` is 1 if a gold clip was
visited, and 0 if not or if no gold clip is known; no preset gives it a weight. `exact_match`,
`token_f1` and `judge` are for free-text answers, `iou` and `recall` for answers to "when?"."""


@dataclass(frozen=True, eq=False)
class Reward(Mapping[str, float]):
    """A mapping of reward terms to weights.

    Attributes:
        weights: Term to weight; none is 0.
        functions: Term to function.
    """

    weights: Mapping[str, float]
    functions: Mapping[str, Term]

    def __getitem__(self, term: str) -> float:
        return self.weights[term]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    @cached_property
    def own(self) -> tuple[str, ...]:
        """Names of the terms that are not built in."""
        return tuple(term for term in self.weights if term not in TERMS)


def parse_reward(spec: Any) -> Reward:
    """Parse a reward spec into terms with weights.

    Args:
        spec: Text such as `paper,validity=0.2`; or a mapping of terms (names or functions) to
            weights. The key `preset` may name a preset to start from.

    Raises:
        SpecError: No such preset or term, or a weight that is not a number.
    """
    if isinstance(spec, str):
        return _parse_text(spec)
    if not isinstance(spec, Mapping):
        raise SpecError(f"expected a reward spec or a mapping of term to weight, got {spec!r:.80}.")
    parts = dict(spec)
    weights = dict(_preset(parts.pop("preset"))) if "preset" in parts else {}
    functions: dict[str, Term] = {}
    for part, weight in parts.items():
        name = part if isinstance(part, str) else getattr(part, "__name__", "term")
        if not isinstance(part, str):
            functions[name] = part
        weights[name] = _weight(name, weight)
    return _reward(weights, functions)


@lru_cache(maxsize=64)
def _parse_text(spec: str) -> Reward:
    preset, *overrides = (part.strip() for part in spec.split(","))
    weights = dict(_preset(preset))
    for override in overrides:
        term, _, value = override.rpartition("=") if "=" in override else (override, "", "")
        weights[term] = _weight(term, value)
    return _reward(weights, {})


def _preset(name: Any) -> Mapping[str, float]:
    if name in PRESETS:
        return PRESETS[name]
    known = [*PRESETS, *entry_point_names("rewards")]
    if not isinstance(name, str) or not (name in known or is_attribute(name)):
        raise SpecError(
            f"unknown reward preset {name!r}; presets: {', '.join(known)}. Weights follow it, "
            "as in 'paper,validity=0.2'."
        )
    found: Mapping[str, float] = find_part("rewards", name)
    if not isinstance(found, Mapping):
        raise SpecError(f"reward {name!r} is not a mapping of terms to weights: {found!r:.80}.")
    return found


def _weight(term: str, value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"the weight of reward term {term!r} must be a number, got {value!r}. Fix: write the "
            f"weight after the name, as in {term}=0.5."
        ) from error
    if isinstance(value, bool) or not math.isfinite(weight):
        raise SpecError(f"the weight of reward term {term!r} must be finite, got {value!r}.")
    return weight


def _reward(weights: Mapping[str, float], functions: Mapping[str, Term]) -> Reward:
    weights = {term: weight for term, weight in weights.items() if weight}
    found = {t: functions.get(t) or find_part("terms", t, TERMS) for t in weights}
    for term, function in found.items():
        if not callable(function):
            raise SpecError(f"reward term {term!r} is not a function, but {function!r:.80}.")
    return Reward(weights, found)


def score(play: Play, gold: Gold, reward: Reward) -> Score:
    """Reward and facts of one episode.

    A failed episode has no reward and is never a wrong answer.
    """
    if reward.own:
        return run_blocking(score_async(play, gold, reward))
    facts = _facts(play, gold)
    if facts.correct is None:
        return facts
    return _weighted(facts, {term: reward.functions[term](play, gold) for term in reward}, reward)


async def score_async(play: Play, gold: Gold, reward: Reward) -> Score:
    """`score` for an event loop: async terms do not block other episodes."""
    facts = _facts(play, gold)
    if facts.correct is None:
        return facts
    values: dict[str, Any] = {}
    for term in reward:
        function = reward.functions[term]
        try:
            if term in TERMS:
                values[term] = function(play, gold)
            elif inspect.iscoroutinefunction(function):
                values[term] = await function(play, gold)
            else:
                values[term] = await asyncio.to_thread(function, play, gold)
            value = values[term]
            if value is not None and not math.isfinite(float(value)):
                raise ValueError(f"returned {value!r}")
        except Exception as error:  # noqa: BLE001 - a user's term may raise anything
            message = f"reward term {term!r}: {type(error).__name__}: {error}"
            return replace(facts, error=message)
    return _weighted(facts, values, reward)


def _facts(play: Play, gold: Gold) -> Score:
    if play.status == "failed":
        return Score(None, {}, None, None, None)
    judged = play.judged
    # With options, the gold decides. If the judge failed, only free-text answers lose their score.
    lost = play.ask == WORDS and judged is not None and judged.right is None
    return Score(
        reward=None,
        terms={},
        correct=None if lost else _is_right(play, gold),
        grounded=_any_in(gold.clip_ids, play.visited),
        grounded_first=_any_in(gold.clip_ids, play.opened_at),
        error=f"{JUDGE_FAILED}: {judged.error}" if lost and judged is not None else None,
        answer=answer_scores(play.said, gold),
    )


def _is_right(play: Play, gold: Gold) -> bool | None:
    if gold.answer is not None:
        return gold.is_right(play.choice)
    if gold.when:
        return answer_scores(play.said, gold)["iou"] >= RIGHT_FROM_IOU
    if gold.text is None or play.ask != WORDS:
        return None  # a free-text answer that was not asked for has no reward
    if play.judged is not None:
        return play.judged.right
    return answer_scores(play.said, gold)["exact_match"] == 1.0


def _weighted(facts: Score, values: Mapping[str, Any], reward: Reward) -> Score:
    terms = {term: float(value) for term, value in values.items() if value is not None}
    total = sum(weight * terms[term] for term, weight in reward.items() if term in terms)
    return Score(
        total,
        terms,
        facts.correct,
        facts.grounded,
        facts.grounded_first,
        facts.error,
        facts.answer,
    )


def _any_in(clip_ids: Sequence[str], shown: Sequence[str]) -> bool | None:
    """Whether one of the gold clips was shown. None if no gold clip is known."""
    return any(clip_id in shown for clip_id in clip_ids) if clip_ids else None
