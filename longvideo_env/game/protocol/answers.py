r"""Which option an answer names, by a written rule.

1. Around a label may stand quotes, brackets, stars, backticks, dollar signs, `\boxed{...}` or
   `\text{...}`, the word "option" before it, and a full stop, comma, colon or exclamation mark
   behind it.
2. A label may be followed by a colon, a full stop, a closing bracket or a dash and the words of
   that very option: `a1: he stands`.
3. Everything else is refused. No letter or label is ever read out of prose: `a3 or a1`, `I think
   a1` and a lone `B` name no option.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from longvideo_env.game.protocol.base import (
    ANSWER,
    Action,
    Malformed,
    MalformedKind,
    Outcome,
    option_label,
)

_AROUND = "\"'`*_()[]{}<>$ \t\r\n“”\u2018\u2019"
_COMMAND = re.compile(r"\\(?:boxed|text|mathrm|textbf)\s*\{([^{}]*)\}", re.ASCII)
_LABEL = re.compile(
    r"(?:option\s+)?a([0-9]+)"
    r"(?:[\s\"'`*)\]}]*[.,!]?|\s*[\"'`*)\]}]*\s*(?:[:.)\]\u2013\u2014-]\s*(?P<text>.+)|:))",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_WORD = re.compile(r"\w+")
_PLAIN = re.compile(r"a([0-9]{1,2})", re.ASCII)

_NESTED = 3
"""How deep commands may be nested: `\\boxed{\\text{a1}}`."""

_LONGEST = 2000
"""Characters of an answer that are looked at: a label with its option's text is shorter."""


def read_answer(text: str, options: int | Sequence[str]) -> int | MalformedKind:
    """Index of the option that an answer names, or what is wrong with it.

    Args:
        text: What stands in the answer.
        options: The options as they are shown; or how many there are, where their texts are not
            known: then a label stands alone.
    """
    n_options = options if isinstance(options, int) else len(options)
    plain = _PLAIN.fullmatch(text)
    if plain is not None and int(plain[1]) < n_options:
        return int(plain[1])
    if len(text) > _LONGEST:
        return MalformedKind.NOT_A_LABEL
    bare = text
    for _ in range(_NESTED):
        bare = _COMMAND.sub(r"\1", bare)
    match = _LABEL.fullmatch(bare.strip(_AROUND))
    if match is None:
        return MalformedKind.NOT_A_LABEL
    # Long runs of digits cannot name an option, and int() refuses the longest.
    choice = int(match[1]) if len(match[1]) <= 2 else n_options
    if choice >= n_options:
        return MalformedKind.NOT_A_LABEL if match["text"] else MalformedKind.UNKNOWN_OPTION
    if match["text"] and (
        isinstance(options, int) or _words(match["text"]) != _words(options[choice])
    ):
        return MalformedKind.NOT_A_LABEL
    return choice


def answer_of(text: str, options: int | Sequence[str]) -> Outcome:
    """An answer as an action; in words where there are no options."""
    n_options = options if isinstance(options, int) else len(options)
    if n_options == 0:
        return Action(ANSWER, text)
    read = read_answer(text, options)
    if isinstance(read, MalformedKind):
        return Malformed(read, {"said": text[:40], "last": option_label(n_options - 1)})
    return Action(ANSWER, option_label(read))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
