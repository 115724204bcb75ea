"""The fields that each block of the words may use, with sample values to test a block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Shown(str):
    """Text that was already rendered. It is shown unchanged."""

    __slots__ = ()


class ShownTool(NamedTuple):
    """A tool, as used in the rules."""

    tag: str
    name: str
    purpose: str
    argument: str
    moves: bool


class ShownOption(NamedTuple):
    """An option with its label."""

    label: str
    text: str


class ShownLine(NamedTuple):
    """A line of dialogue. Its time is empty if unknown."""

    text: str
    time: str


class ShownClip(NamedTuple):
    """A clip of the view. Its time is start and end in the video, in seconds."""

    clip_id: str
    lines: tuple[ShownLine, ...]
    time: str = ""


class ShownFrame(NamedTuple):
    """A frame shown with the message: its time, and its clip if it is the clip's first frame."""

    clip_id: str
    time: str


@dataclass(frozen=True, slots=True)
class ShownTags:
    """Names of tags."""

    reasoning: str = "reasoning"
    answer: str = "answer"
    reply: str = "information"
    view: str = "New_clip"


_FAULTS = (
    *("no_action", "several_actions", "unclosed", "empty", "unavailable"),
    *("unknown_option", "not_a_label", "wrong_arguments", "broken_call", "unknown_tool"),
)


_SHOWN = (ShownTool, ShownOption, ShownLine, ShownClip, ShownFrame)
PLAIN: Mapping[type, frozenset[str]] = {
    ShownTags: frozenset(ShownTags.__dataclass_fields__),
    **{cls: frozenset(cls._fields) for cls in _SHOWN},
}
"""Attributes that hold plain text. Templates may read them without further checks."""


def _samples() -> Mapping[str, tuple[Mapping[str, Any], ...]]:
    tools = (
        ShownTool("ask", "ask", "Asks.", "what", False),
        ShownTool("go", "go", "Go.", "", True),
    )
    common = {
        "tags": ShownTags(),
        "tools": tools,
        "max_turns": 5,
        "turns_left": 4,
        "n_options": 5,
        "first_label": "a0",
        "last_label": "a4",
        "ask": "choice",
    }
    last = {"max_turns": 1, "turns_left": 1, "n_options": 0, "last_label": "", "tools": ()}
    last |= {"first_label": "", "ask": "when"}
    turns = {"turns": Shown("4 turns.")}
    view = {"view": Shown("<clip>")}
    clip = ShownClip("s01", (ShownLine("words", "00:01"), ShownLine("words", "")), "0-60")
    fault = {"tag": "ask", "tags_found": ("ask", "go"), "n": 2, "said": "x"}
    fault |= {"expected": "what", "problem": "it is not JSON"}
    faults = (common | fault, common | last | fault)
    options = (ShownOption("a0", "red"), ShownOption("a1", "blue"))
    opening = {"question": "What?", "options": options, "video_id": "s01", "n_clips": 2}
    opening |= {"reply": "text", "length_s": "120"}
    reply = {"tool": "ask", "reply": "text", **view, **turns}
    return {
        "rules": (common, common | last),
        "opening": (
            common | opening | view | turns,
            common | last | opening | {"options": (), "n_clips": 1} | view | turns,
        ),
        "view": (common | {"clips": (clip, ShownClip("s02", ()))}, common | last | {"clips": ()}),
        "turns": (common, common | last),
        "reply": (common | reply, common | last | reply | {"reply": "", "view": ""}),
        "refused": tuple(
            common | turns | {"tool": "ask", "reason": reason} for reason in ("all_visited", "x")
        ),
        "malformed": (common | turns | {"problem": Shown("x")}, common | last | turns | fault),
        **dict.fromkeys(_FAULTS, faults),
        "answer_tool": (common, common | last),
        "answer_says": (common, common | last),
        "ended": tuple(common | {"choice": choice, "status": "answered"} for choice in ("a3", "")),
    }


SAMPLES = _samples()
"""Name of a block -> sample fields. The first sample has every field."""

ALL_SAMPLES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    **SAMPLES,
    "judge": ({"question": "What?", "right": "red", "said": "It is red."},),
    "frames": tuple(
        {**SAMPLES["turns"][0], "frames": frames, "n_there": len(frames)}
        for frames in ((ShownFrame("s01", "00:01"), ShownFrame("", "00:09")), ())
    ),
}
"""The same, with the blocks for judges and for masters that see."""
