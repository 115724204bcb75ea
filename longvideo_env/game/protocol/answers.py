r"""Which option an answer names, by a written rule.

1. Around a label may stand quotes, brackets, stars, backticks, dollar signs, `\boxed{...}` or
   `\text{...}`, the word "option" before it, and a full stop, comma, colon or exclamation mark
   behind it.
2. A label may be followed by a colon, a full stop, a closing bracket or a dash and the option's
   text, if this holds no other label: `a1: stands`.
3. Everything else is refused. No letter or label is ever read out of prose: `a3 or a1`, `I think
   a1` and a lone `B` name no option.
"""

from __future__ import annotations

import re

from longvideo_env.game.protocol.base import MalformedKind

_AROUND = "\"'`*_()[]{}<>$ \t\r\n“”\u2018\u2019"
_COMMAND = re.compile(r"\\(?:boxed|text|mathrm|textbf)\s*\{([^{}]*)\}", re.ASCII)
_LABEL = re.compile(
    r"(?:option\s+)?a([0-9]+)"
    r"(?:[\s\"'`*)\]}]*[.,!]?|\s*[\"'`*)\]}]*\s*(?:[:.)\]\u2013\u2014-]\s*(?P<text>.+)|:))",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_OTHER = re.compile(r"(?<![A-Za-z0-9])a[0-9]+(?![A-Za-z0-9])", re.IGNORECASE | re.ASCII)
_NESTED = 3
"""How deep commands may be nested: `\\boxed{\\text{a1}}`."""

_LONGEST = 2000
"""Characters of an answer that are looked at: a label with its option's text is shorter."""


def read_answer(text: str, n_options: int) -> int | MalformedKind:
    """Index of the option that an answer names, or what is wrong with it."""
    if len(text) > _LONGEST:
        return MalformedKind.NOT_A_LABEL
    bare = text
    for _ in range(_NESTED):
        bare = _COMMAND.sub(r"\1", bare)
    bare = bare.strip(_AROUND)
    match = _LABEL.fullmatch(bare)
    if match is None or (match["text"] and _OTHER.search(match["text"])):
        return MalformedKind.NOT_A_LABEL
    # Long runs of digits cannot name an option, and int() refuses the longest.
    choice = int(match[1]) if len(match[1]) <= 2 else n_options
    return choice if choice < n_options else MalformedKind.UNKNOWN_OPTION
