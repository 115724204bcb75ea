"""What of a reply is reasoning, and so neither an action nor an answer.

Models mark reasoning in many ways. All that are known stand in one list here; evaluation,
training and the servers' stop strings go by it alike: while reasoning is open, nothing stops a
reply and nothing in it counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TAGS = ("reasoning", "think", "thinking", "thought", "seed:think")
"""`<think>` and `</think>`: LongVideoAgent, Qwen, DeepSeek, GLM, Nemotron, Seed and others."""

_PAIRS = {
    "[THINK]": "[/THINK]",  # Magistral
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
    "◁think▷": "◁/think▷",  # Kimi
    "<|channel>thought": "<channel|>",  # Gemma 4
}

_CHANNEL = "<|channel|>analysis"
"""gpt-oss: a channel is closed by `<|end|>`, or by the header of the final one. Other models end
their turns with `<|end|>`, so it closes nothing that was not opened."""

_MARK = re.compile(
    rf"<(?P<slash>/?)(?P<tag>{'|'.join(_TAGS)})\s*>"
    rf"|(?P<open>{'|'.join(map(re.escape, _PAIRS))})"
    rf"|(?P<close>{'|'.join(map(re.escape, _PAIRS.values()))})"
    r"|<\|channel\|>(?P<channel>analysis|commentary|final)[^<>]{0,80}<\|message\|>"
    r"|(?P<end><\|end\|>)",
    re.IGNORECASE | re.ASCII,
)
_OPENED_BY = {close.lower(): opening for opening, close in _PAIRS.items()}


def cut_reasoning(text: str) -> tuple[str, bool, str | None]:
    """Take the reasoning out of a reply.

    A closing mark that nothing opened ends reasoning that the chat template opened: all before it
    is reasoning.

    Returns:
        The rest; whether there was a closed, non-empty block; the form left open, or None.
    """
    if "<" not in text and "[" not in text and "◁" not in text:
        return text, False, None
    rest: list[str] = []
    inside: str | None = None
    start, seen = 0, False
    for begin, end, form, closing in _marks(text):
        if inside is None:
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
    """The end of a text from the mark on that opens reasoning and is not closed; empty if none."""
    inside, start = None, 0
    for begin, _, form, closing in _marks(text):
        if inside is None and not closing:
            inside, start = form, begin
        elif closing and form == inside:
            inside = None
    return text[start:] if inside is not None else ""


def _marks(text: str) -> Iterator[tuple[int, int, str, bool]]:
    """Where marks begin and end, their form, and whether they close."""
    in_channel = False
    for mark in _MARK.finditer(text):
        begin, end = mark.span()
        kind = mark.lastgroup
        if kind == "tag":
            yield begin, end, mark["tag"].lower(), bool(mark["slash"])
        elif kind == "open":
            opening = mark["open"].lower()
            yield begin, end, next(o for o in _PAIRS if o.lower() == opening), False
        elif kind == "close":
            yield begin, end, _OPENED_BY[mark["close"].lower()], True
        elif kind == "channel":
            final = mark["channel"].lower() == "final"
            if final or not in_channel:
                yield begin, end, _CHANNEL, final
            in_channel = not final
        elif in_channel:
            yield begin, end, _CHANNEL, True
            in_channel = False
