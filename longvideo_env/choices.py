"""Special options: those that refer to other options, and those with the same text.

pinned_options(("Apples.", "Pears.", "Both A and B"))     # (2,): keeps its place
name_labels(("Apples.", "Pears.", "Both A and B"))        # ... "Both a0 and a1"
equal_options(("Three", "Six", "Three"))                  # ((0, 2),)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

_OTHERS = re.compile(
    r"\b(?:all|none|any|both|neither|either|each|some|two)\s+(?:of\s+)?(?:the\s+|these\s+)?"
    r"(?:above|other|others|options?|choices|answers|these|those|them|following)\b"
    r"|\b(?:options?|choices|answers|all|none|both)\s+(?:given\s+|listed\s+)?above\b",
    re.IGNORECASE,
)
_ONE = r"(?:(?i:options?|choices?|answers?)\s+)?[\"'(]?(?:[A-P]|a\d{1,2})[\"')]?"
_LETTERS = re.compile(
    rf"\s*(?:(?i:both|neither|either|only|all\s+of|none\s+of|all|not)\s+)?{_ONE}"
    rf"(?:\s*(?:,\s*(?i:and|or|nor)?|(?i:and|or|nor)|&|\+)\s*{_ONE})+\s*(?:are\s+\w+)?\s*[.!]?\s*"
)
_LETTER = re.compile(r"(?<![\w'])([A-P])(?![\w'])")
_NAMED = re.compile(r"(?<!\w)(?:[A-P]|a\d{1,2})(?!\w)")
_LABEL = re.compile(r"(?<!\w)a(\d{1,2})(?!\w)")


def points_at_others(option: str) -> bool:
    """Whether an option refers to others: "all of the above", "both A and B", "neither"."""
    if len(option) > 80:
        return False
    lone = option.strip(" .").lower()
    return (
        lone in ("both", "neither", "all", "none", "either")
        or _OTHERS.search(option) is not None
        or _names_letters(option)
    )


@lru_cache(maxsize=1024)
def pinned_options(options: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the options that refer to others.

    They keep their place when options are shuffled.
    """
    return tuple(i for i, option in enumerate(options) if points_at_others(option))


def name_labels(options: Sequence[str]) -> tuple[str, ...]:
    """Replace the letters in options that name others by the labels shown: "Both a0 and a1"."""
    if not _NAMED.search("\n".join(options)):
        return tuple(options)

    def label(match: re.Match[str]) -> str:
        number = ord(match[1]) - ord("A")
        return f"a{number}" if number < len(options) else match[0]

    return tuple(_LETTER.sub(label, o) if _names_letters(o) else o for o in options)


def move_labels(options: Sequence[str], order: Sequence[int]) -> tuple[str, ...]:
    """The options in another order, with labels inside them changed to name the same options."""
    place = {original: i for i, original in enumerate(order)}

    def label(match: re.Match[str]) -> str:
        return f"a{place.get(int(match[1]), int(match[1]))}"

    moved = (options[i] for i in order)
    return tuple(_LABEL.sub(label, o) if _names_letters(o) else o for o in moved)


def show_labels(options: Sequence[str], label: Callable[[int], str]) -> tuple[str, ...]:
    """The options with the labels inside them written as shown: "Both A and B"."""

    def shown(match: re.Match[str]) -> str:
        number = int(match[1])
        return label(number) if number < len(options) else match[0]

    return tuple(_LABEL.sub(shown, o) if _names_letters(o) else o for o in options)


def equal_options(options: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Groups of indices of options with the same text."""
    if len(set(options)) == len(options):
        return ()
    groups: dict[str, list[int]] = {}
    for i, option in enumerate(options):
        groups.setdefault(option, []).append(i)
    return tuple(tuple(places) for places in groups.values() if len(places) > 1)


def _names_letters(option: str) -> bool:
    return len(option) <= 80 and _LETTERS.fullmatch(option) is not None
