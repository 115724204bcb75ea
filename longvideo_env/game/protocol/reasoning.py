"""What of a reply is reasoning, and so neither an action nor an answer."""

from __future__ import annotations

import re

_REASONING_TAG = re.compile(r"<(/?)(reasoning|think)\s*>", re.IGNORECASE | re.ASCII)


def cut_reasoning(text: str) -> tuple[str, bool, str | None]:
    """Take the reasoning out of a reply.

    A closing tag that nothing opened ends reasoning that the chat template opened: all before it
    is reasoning.

    Returns:
        The rest; whether there was a closed, non-empty block; the tag left open, or None.
    """
    rest: list[str] = []
    inside: str | None = None
    start, seen = 0, False
    for tag in _REASONING_TAG.finditer(text):
        name, closing = tag[2].lower(), bool(tag[1])
        if inside is None:
            chunk = text[start : tag.start()]
            if closing:
                seen = seen or bool("".join([*rest, chunk]).strip())
                rest = []
            else:
                rest.append(chunk)
                inside = name
            start = tag.end()
        elif closing and name == inside:
            seen = seen or bool(text[start : tag.start()].strip())
            inside, start = None, tag.end()
    if inside is None:
        rest.append(text[start:])
    return "".join(rest), seen, inside
