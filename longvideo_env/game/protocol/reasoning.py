"""Finds the reasoning in a reply. Reasoning contains no action and no answer.

Models mark reasoning in many ways. This module lists all known marks. Evaluation, training and the
servers' stop strings use the same list: an open block of reasoning neither stops a reply nor
contains an action.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

REASONING_TAGS = (
    *("reasoning", "think", "thinking", "thought", "seed:think"),
    *("analysis", "scratchpad", "reflection"),
)
"""`<think>` and `</think>`, with attributes or without: LongVideoAgent, Qwen, DeepSeek, GLM."""

_PAIRS = {
    "[THINK]": "[/THINK]",  # Magistral
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
    "◁think▷": "◁/think▷",  # Kimi
    "<|channel>": "<channel|>",  # Gemma 4
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
}
_WEAK = {"<|end|>": "<|channel|>", "<|eom|>": "to=self<|message|>"}
"""Marks that also end a turn, so they close only a block that was opened: gpt-oss, Muse."""

_CHANNEL = "<|channel|>"
"""gpt-oss: all channels except the final one are reasoning. The final header also ends it."""

Mark: TypeAlias = tuple[int, int, str, bool, bool]
"""A mark: start, end, form, whether it closes, and whether it may close a block that the chat
template opened."""

_TAG = re.compile(
    rf"<(/?)({'|'.join(REASONING_TAGS)})(?:\s[^<>]{{0,80}})?>", re.IGNORECASE | re.ASCII
)
_MARK = re.compile(
    rf"{_TAG.pattern}"
    rf"|(?P<open>{'|'.join(map(re.escape, (*_PAIRS, 'to=self<|message|>')))})"
    rf"|(?P<close>{'|'.join(map(re.escape, (*_PAIRS.values(), *_WEAK)))})"
    r"|<\|channel\|>(?P<channel>analysis|commentary|final)[^<>]{0,80}<\|message\|>",
    re.IGNORECASE | re.ASCII,
)
_FORMS = {name.lower(): name for name in (*_PAIRS, *_WEAK.values())}
_OPENED_BY = {close.lower(): opening for opening, close in _PAIRS.items()} | _WEAK


def cut_reasoning(text: str) -> tuple[str, bool, str | None]:
    """Remove the reasoning from a reply.

    A closing mark without an opening one ends reasoning that the chat template opened. All text
    before it is reasoning.

    Returns:
        The remaining text; whether there was a closed, non-empty block; the form left open, or
        None.
    """
    marks = _marks(text)
    if not marks:
        return text, False, None
    rest: list[str] = []
    inside: str | None = None
    start, seen = 0, False
    for begin, end, form, closing, strong in marks:
        if inside is None:
            if closing and not strong:
                continue
            chunk = text[start:begin]
            if closing:
                seen = seen or any(part.strip() for part in (*rest, chunk))
                rest = []
            else:
                rest.append(chunk)
                inside = form
            start = end
        elif closing and form == inside:
            seen = seen or bool(text[start:begin].strip())
            inside, start = None, end
    if inside is None:
        rest.append(text[start:])
    return "".join(rest), seen, inside


def open_reasoning(text: str) -> str:
    """The text from an unclosed opening mark to the end. Empty if there is none."""
    inside, start = None, 0
    for begin, _, form, closing, _ in _marks(text):
        if inside is None and not closing:
            inside, start = form, begin
        elif closing and form == inside:
            inside = None
    return text[start:] if inside is not None else ""


def without_thinking(text: str) -> str:
    """A reply without the model's own thinking. The game's `<reasoning>` block is kept."""
    inside, end = None, 0
    for _, stop, form, closing, strong in _marks(text):
        if inside is None and not closing:
            inside = form
        elif (closing and form == inside) or (inside is None and strong):
            end = stop if form != REASONING_TAGS[0] else end
            inside = None
    return text[end:].lstrip() if text[end:].strip() else text


def _marks(text: str) -> list[Mark]:
    if "|" in text or "[" in text or "◁" in text:
        return list(_all_marks(_MARK.finditer(text)))
    if "<" not in text:
        return []
    return [(*m.span(), m[2].lower(), m[1] == "/", True) for m in _TAG.finditer(text)]


def _all_marks(found: Iterable[re.Match[str]]) -> Iterator[Mark]:
    for mark in found:
        begin, end = mark.span()
        if mark[2]:
            yield begin, end, mark[2].lower(), mark[1] == "/", True
        elif mark["open"]:
            yield begin, end, _FORMS[mark["open"].lower()], False, True
        elif mark["close"]:
            closing = mark["close"].lower()
            yield begin, end, _OPENED_BY[closing], True, closing not in _WEAK
        else:
            yield begin, end, _CHANNEL, mark["channel"].lower() == "final", True
