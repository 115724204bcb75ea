"""Turns cues into lines: without markup and drawings, and each line of rolling captions once."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from longvideo_env.schema import TimedText

MAX_LINE = 20_000
MAX_TIME_S = 360_000.0

_SCRIPT = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_HUGE = re.compile(r"&#x?[0-9a-f]{9,};?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SPACE = re.compile(r"\s+")
_OVERRIDE = re.compile(r"(\{\\[^{}]*\})")
_DRAWING = re.compile(r"\\p(\d+)")
_TOUCH_S = 0.5


@dataclass(slots=True)
class Cue:
    """The text between two times, with markup and line ends."""

    start_s: float
    end_s: float
    text: str
    place: str = ""


@dataclass(slots=True)
class Cues:
    """What a format's reader found.

    Attributes:
        cues: The cues in file order.
        problems: One message per cue that was not read.
        rolling: Whether the file declares rolling captions.
        known: Whether the file certainly has this format, even without a cue.
    """

    cues: list[Cue] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    rolling: bool = False
    known: bool = True


def plain_text(text: str) -> str:
    """The text without markup, on one line."""
    return " ".join(_plain_lines(text))[:MAX_LINE]


def to_lines(found: Cues) -> tuple[tuple[TimedText, ...], list[str]]:
    """Lines in order of time, and messages about what was not read."""
    problems = list(found.problems)
    shown: list[tuple[Cue, list[str]]] = []
    for cue in sorted(found.cues, key=lambda cue: (cue.start_s, cue.end_s)):
        lines = _plain_lines(without_drawings(cue.text))
        if not lines:
            continue
        if not (math.isfinite(cue.start_s) and 0 <= cue.start_s < MAX_TIME_S):
            problems.append(f"{cue.place}: {cue.start_s:g} s is not a valid time")
        elif sum(map(len, lines)) > MAX_LINE:
            problems.append(f"{cue.place}: more than {MAX_LINE:,} characters at one time")
        else:
            end = cue.end_s if math.isfinite(cue.end_s) else cue.start_s
            cue.end_s = min(max(cue.start_s, end), MAX_TIME_S)
            shown.append((cue, lines))
    lines_of = {id(cue): lines for cue, lines in shown}
    cues = [cue for cue, _ in shown]
    for units, least in (
        (lambda cue: lines_of[id(cue)], 1),
        (lambda cue: _words(lines_of, cue), 3),
    ):
        if _rolls(cues, units, least, found.rolling):
            return _once(cues, units, least), problems
    return tuple(TimedText(" ".join(x), c.start_s, c.end_s) for c, x in shown), problems


def without_drawings(text: str) -> str:
    r"""Text without ASS drawings, which are between `{\p1}` and `{\p0}`."""
    if "\\p" not in text:
        return text
    kept, drawing = [], False
    for part in _OVERRIDE.split(text):
        if part.startswith("{\\"):
            for scale in _DRAWING.findall(part):
                drawing = scale.strip("0") != ""
        elif not drawing:
            kept.append(part)
    return "".join(kept)


def _plain_lines(text: str) -> list[str]:
    text = _TAG.sub("", _SCRIPT.sub(" ", text))
    # Only once: the result of an entity is text, not markup.
    text = html.unescape(_HUGE.sub(" ", text))
    lines = (_SPACE.sub(" ", _CONTROL.sub(" ", line)).strip() for line in text.split("\n"))
    return [line for line in lines if line]


def _words(lines_of: dict[int, list[str]], cue: Cue) -> list[str]:
    return " ".join(lines_of[id(cue)]).split()


_Units = Callable[[Cue], Sequence[str]]


def _rolls(cues: Sequence[Cue], units: _Units, least: int, told: bool) -> bool:
    """Whether captions roll: most cues start with the end of the cue before, and some add to it."""
    repeats = grows = 0
    for before, cue in pairwise(cues):
        n = _overlap(before, cue, units, least)
        repeats += n > 0
        grows += 0 < n < len(units(cue))
    enough = 1 if told else 2 if least == 1 else 3
    return repeats >= max(enough, 0.6 * (len(cues) - 1)) and grows * 4 >= repeats


def _once(cues: Sequence[Cue], units: _Units, least: int) -> tuple[TimedText, ...]:
    found: list[TimedText] = []
    before: Cue | None = None
    for cue in cues:
        n = 0 if before is None else _overlap(before, cue, units, least)
        if new := units(cue)[n:]:
            found.append(TimedText(" ".join(new), cue.start_s, cue.end_s))
        elif found:
            last = found[-1]
            found[-1] = TimedText(last.text, last.start_s, max(last.end_s or 0.0, cue.end_s))
        before = cue
    return tuple(found)


def _overlap(before: Cue, cue: Cue, units: _Units, least: int) -> int:
    """Number of units that end one cue and begin the next, if the cues touch in time."""
    if cue.start_s - before.end_s > _TOUCH_S:
        return 0
    old, new = units(before), units(cue)
    n = _border([*new, None, *old[-len(new) :]])
    return n if n >= least or n == len(old) else 0


def _border(row: Sequence[str | None]) -> int:
    """Length of the longest proper prefix that is also a suffix, in linear time (Knuth, Morris)."""
    borders = [0] * len(row)
    for i in range(1, len(row)):
        k = borders[i - 1]
        while k and row[i] != row[k]:
            k = borders[k - 1]
        borders[i] = k + (row[i] == row[k])
    return borders[-1]


def end_times(starts: Iterable[tuple[float, str, str]]) -> list[Cue]:
    """Cues for formats without end times: they last for the reading time, or until the next cue."""
    cues = [Cue(s, s + 0.5 + 0.067 * len(text), text, place) for s, text, place in starts]
    for cue, following in pairwise(cues):
        cue.end_s = max(cue.start_s, min(cue.end_s, following.start_s))
    return cues
