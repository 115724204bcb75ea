"""The next step of the `mini` teacher in games whose tools search by time or text.

A step is an action, or a word that was found and is looked up in the options. None means a guess.
Each function searches the fields of observations for the fixed phrases of `mini`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from longvideo_env.datasets.mini.world import CLIP_S
from longvideo_env.game.policy import Context
from longvideo_env.game.protocol.base import Action
from longvideo_env.schema import TimedText

SWEEP_S = 240.0
"""Seconds read per step while searching for a line."""

N_FEW = 2
"""Captions per search with `few`. The line is usually among them."""

_TELLS = re.compile(r"the (\w+) is on \w+ \.")

SEGMENTS = 8
"""Number of parts of the film in each of which a frame is requested."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parts of a question of `mini`.

    Attributes:
        topic: The topic whose day is stated in one line.
        person: The person who states it.
        thing: The thing they hold, whose colour is asked; None if the day is asked.
        few: Request little at a time: two captions, one minute.
    """

    topic: str
    person: str
    thing: str | None = None
    few: bool = False

    @property
    def told(self) -> re.Pattern[str]:
        """Matches the line that states the topic's day."""
        return re.compile(rf"the {self.topic} is on (\w+) \.")

    @property
    def held(self) -> re.Pattern[str]:
        """Matches the description of what the person holds."""
        return re.compile(rf"{self.person} holds a (\w+) {self.thing} \.")


class Step(NamedTuple):
    """A thought with an action, or with a word to look up in the options."""

    reasoning: str
    then: Action | str


def crop_step(wanted: Wanted, context: Context) -> Step | None:
    """LongVT: read four minutes at a time, then crop the moment and answer from it."""
    if wanted.few:
        return _next_minute(wanted, context)
    crops = [one for one in context.observations if one.moved]
    for seen in reversed(crops):
        told = _line(wanted, seen.lines)
        if told is None:
            continue
        start, end = _moment(wanted, told)
        near = all(start <= (line.start_s or 0.0) < end for line in seen.lines)
        if not near:
            return Step(f"the {wanted.topic} is on look .", _crop(start, end))
        if wanted.thing is None:
            day = _word(wanted.told, told.text)
            return Step(f"the {wanted.topic} is on {day}", day)
        colour = _word(wanted.held, seen.reply or "")
        return Step(f"{wanted.person} holds a {colour}", colour) if colour else None
    start, whole = SWEEP_S * len(crops), context.observations[0].length_s or 0.0
    if start >= whole:
        return None
    return Step(f"the {wanted.topic} , go on .", _crop(start, min(start + SWEEP_S, whole)))


def _next_minute(wanted: Wanted, context: Context) -> Step | None:
    """Read a minute at a time, and name its topic before the asked one.

    Then a small model compares two words that are next to each other.
    """
    crops = [one for one in context.observations if one.moved]
    lines = crops[-1].lines if crops else ()
    told = _line(wanted, lines)
    if told is not None:
        day = _word(wanted.told, told.text)
        said = f"{wanted.topic} the {wanted.topic} is on {day}"
        if wanted.thing is None:
            return Step(said, day)
        colour = _word(wanted.held, crops[-1].reply or "")
        return Step(f"{said} , {wanted.person} holds a {colour}", colour) if colour else None
    heard = [_word(_TELLS, line.text) for line in lines if _TELLS.search(line.text)]
    start, whole = CLIP_S * float(len(crops)), context.observations[0].length_s or 0.0
    if start >= whole:
        return None
    about = heard[-1] if heard else "place"
    return Step(f"{about} the {wanted.topic} , go on .", _crop(start, min(start + CLIP_S, whole)))


def search_step(wanted: Wanted, context: Context) -> Step | None:
    """Deep Video Discovery: search for the line, inspect its minute, finish."""
    lines = [line for seen in context.observations for line in seen.lines]
    told = _line(wanted, lines)
    if told is None:
        if len(context.observations) > 1:
            return None
        query = f"{wanted.person} : the {wanted.topic} is on"
        arguments: dict[str, Any] = {"event_description": query}
        if wanted.few:
            arguments["top_k"] = N_FEW
        return Step(f"the {wanted.topic} , go on .", Action("clip_search_tool", None, arguments))
    if wanted.thing is None:
        day = _word(wanted.told, told.text)
        return Step(f"the {wanted.topic} is on {day}", day)
    last = context.observations[-1]
    if last.tool == "frame_inspect_tool":
        colour = _word(wanted.held, last.reply or "")
        return Step(f"{wanted.person} holds a {colour}", colour) if colour else None
    if "frame_inspect_tool" not in context.game.actions:
        return None
    times = [f"{int(at) // 3600:02d}:{int(at) // 60 % 60:02d}:00" for at in _minute(told)]
    asked = f"what colour is the {wanted.thing} of {wanted.person} ?"
    inspect = {"question": asked, "time_ranges_hhmmss": [times]}
    return Step(f"the {wanted.topic} is on look .", Action("frame_inspect_tool", None, inspect))


def retrieve_step(wanted: Wanted, context: Context) -> Step | None:
    """VideoAgent: fetch the frame of the line, then one of its minute, then answer."""
    lines = [line for seen in context.observations for line in seen.lines]
    told = _line(wanted, lines)
    if told is None:
        if len(context.observations) > 1:
            return None
        whole = context.observations[0].length_s or 0.0
        options = " ".join(context.question.options) if wanted.thing is None else ""
        text = f"{wanted.person} : the {wanted.topic} is on {options}".strip()
        each = whole / SEGMENTS
        spans = [(round(i * each, 3), round((i + 1) * each, 3)) for i in range(SEGMENTS)]
        return Step(f"the {wanted.topic} , go on .", _retrieve(spans, text))
    if wanted.thing is None:
        day = _word(wanted.told, told.text)
        return Step(f"the {wanted.topic} is on {day}", day)
    start, end = _minute(told)
    for line in lines:
        colour = _word(wanted.held, line.text)
        if colour and start <= (line.start_s or 0.0) < end:
            return Step(f"{wanted.person} holds a {colour}", colour)
    text = f"{wanted.person} holds a {wanted.thing} ."
    return Step(f"the {wanted.topic} is on look .", _retrieve([(start, end)], text))


STEPS: Mapping[str, Callable[[Wanted, Context], Step | None]] = {
    "crop_video": crop_step,
    "clip_search_tool": search_step,
    "retrieve_frames": retrieve_step,
}
"""Name of a tool that identifies the game -> the function for its next step."""


def _line(wanted: Wanted, lines: list[TimedText] | tuple[TimedText, ...]) -> TimedText | None:
    return next((line for line in lines if wanted.told.search(line.text)), None)


def _word(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return "" if found is None else found[1]


def _minute(line: TimedText) -> tuple[float, float]:
    """Start and end of the clip of a line."""
    start = (line.start_s or 0.0) // CLIP_S * CLIP_S
    return start, start + CLIP_S


def _moment(wanted: Wanted, line: TimedText) -> tuple[float, float]:
    """Start and end of the line if only its day is asked; otherwise of its clip."""
    if wanted.thing is None:
        return line.start_s or 0.0, line.end_s or 0.0
    return _minute(line)


def _crop(start: float, end: float) -> Action:
    return Action("crop_video", None, {"start_time": start, "end_time": end})


def _retrieve(spans: list[tuple[float, float]], text: str) -> Action:
    asked = [{"start_time": start, "end_time": end, "description": text} for start, end in spans]
    return Action("retrieve_frames", None, {"frame_descriptions": asked})
