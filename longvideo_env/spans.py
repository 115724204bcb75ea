"""Stretches of time in seconds of a whole video, and the comparison of answers to "when?".

temporal_iou([(10, 20)], [(15, 30)])            # 0.25: 5 s of overlap, 20 s of union
temporal_recall([(10, 20)], [(15, 30)])         # 0.333...: 5 of 15 s
read_spans("0:12.5 - 0:40; 61-70")              # ((12.5, 40.0), (61.0, 70.0))

A list of stretches means their union; overlaps count once. CG-Bench (arXiv 2412.12075) uses the
intersection over union of such sets for several clues. For one stretch each it is the usual
temporal IoU (Gao et al., TALL, arXiv 1705.02101).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

Span: TypeAlias = tuple[float, float]
"""`(start_s, end_s)`."""

MOST_SPANS = 32
"""An answer with more stretches is invalid."""

_TIME = r"(?:(?:\d{1,3}:)?\d{1,3}:)?\d{1,7}(?:\.\d{1,9})?"
_SPAN = re.compile(
    rf"[\[(]?\s*({_TIME})(?:\s*s)?\s*(?:-|\u2013|\u2014|,|to)\s*({_TIME})(?:\s*s\b)?(?:\s*[\])])?",
    re.ASCII,
)
_BETWEEN = re.compile(r"\s*(?:;|\n|,|and\b)\s*")


def merge_spans(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Merge stretches that touch, in order of time. Empty ones are dropped."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif end > start:
            merged.append((start, end))
    return tuple(merged)


def covered_s(spans: Sequence[Span]) -> float:
    """Seconds in the union of the stretches."""
    return math.fsum(end - start for start, end in merge_spans(spans))


def common_s(one: Sequence[Span], other: Sequence[Span]) -> float:
    """Seconds in the intersection of both."""
    return math.fsum(
        max(0.0, min(a_end, b_end) - max(a_start, b_start))
        for a_start, a_end in merge_spans(one)
        for b_start, b_end in merge_spans(other)
    )


def temporal_iou(said: Sequence[Span], gold: Sequence[Span]) -> float:
    """Intersection over union, 0 to 1. 0 if both are empty."""
    common = common_s(said, gold)
    either = covered_s(said) + covered_s(gold) - common
    return common / either if either > 0 else 0.0


def temporal_recall(said: Sequence[Span], gold: Sequence[Span]) -> float:
    """Share of the gold time that the answer covers, 0 to 1. 0 if there is no gold time."""
    whole = covered_s(gold)
    return common_s(said, gold) / whole if whole > 0 else 0.0


def read_spans(text: str) -> tuple[Span, ...] | str:
    """Parse the stretches in a text, or return what is wrong with it. Never raises.

    Times are seconds (`12.5`), `mm:ss` or `hh:mm:ss`. Start and end are separated by `-`, `to` or a
    comma. Brackets and an `s` after a time are allowed. Stretches are separated by `;`, `and`, a
    comma or a new line.
    """
    spans: list[Span] = []
    rest = text.strip().rstrip(".")
    at = 0
    while at < len(rest):
        found = _SPAN.match(rest, at)
        if found is None:
            return "it is not a start and an end"
        start, end = _seconds(found[1]), _seconds(found[2])
        if start >= end:
            return f"it starts at {start:g} s and ends at {end:g} s"
        spans.append((start, end))
        if len(spans) > MOST_SPANS:
            return f"it holds more than {MOST_SPANS} stretches"
        at = found.end()
        between = _BETWEEN.match(rest, at)
        if at < len(rest) and between is None:
            return "it is not a start and an end"
        at = at if between is None else between.end()
    return tuple(spans) or "it is empty"


def write_spans(spans: Sequence[Span]) -> str:
    """Write stretches in the format of `read_spans`: `12.5-40; 61-70`."""
    return "; ".join(f"{_number(start)}-{_number(end)}" for start, end in spans)


def _seconds(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _number(seconds: float) -> str:
    text = f"{seconds:.6f}".rstrip("0").rstrip(".")
    return text or "0"
