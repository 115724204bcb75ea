r"""How an answer is written and parsed.

An option's label is `a0` onward, a letter or a number, as the game sets it (`AnswerForm.labels`):

1. A label may be surrounded by quotes, brackets, stars, backticks, dollar signs, `\boxed{...}` or
   `\text{...}`. It may follow the word "option", and a full stop, comma, colon or exclamation mark
   may follow it. Letters may be lower case.
2. A label may be followed by a colon, a full stop, a closing bracket or a dash and the words of
   that very option: `a1: he stands`.
3. Everything else is refused. Labels in prose and labels of another kind do not count: `a3 or a1`,
   `I think a1` and, if labels are `a0` onward, a lone `B` name no option.

An answer to "when?" is one or several stretches in seconds of the whole video (see
`longvideo_env.spans.read_spans`). A free-text answer is taken as written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import NamedTuple

from longvideo_env.choices import show_labels
from longvideo_env.config import CHOICE, WHEN
from longvideo_env.game.protocol.base import (
    ANSWER,
    Action,
    Malformed,
    MalformedKind,
    Outcome,
    option_label,
)
from longvideo_env.spans import read_spans, write_spans

EXPECTED_SPAN = "start - end in seconds of the video, such as 12.5 - 40"

_AROUND = "\"'`*_()[]{}<>$ \t\r\n“”\u2018\u2019"
_COMMAND = re.compile(r"\\(?:boxed|text|mathrm|textbf)\s*\{([^{}]*)\}", re.ASCII)
_WORD = re.compile(r"\w+")
_PLAIN = re.compile(r"a([0-9]{1,2})", re.ASCII)

_NESTED = 3
"""Maximum nesting of commands such as `\\boxed{\\text{a1}}`."""

_LONGEST = 2000
"""Only this many characters of an answer are parsed. A label with its option's text is shorter."""


class _Labels(NamedTuple):
    """A kind of labels: how to write a label, to read it as an index, and to find it."""

    label: Callable[[int], str]
    place: Callable[[str], int]
    pattern: re.Pattern[str]


def _kind(core: str, label: Callable[[int], str], index: Callable[[str], int]) -> _Labels:
    pattern = re.compile(
        rf"(?:option\s+)?{core}"
        r"(?:[\s\"'`*)\]}]*[.,!]?|\s*[\"'`*)\]}]*\s*(?:[:.)\]\u2013\u2014-]\s*(?P<text>.+)|:))",
        re.IGNORECASE | re.ASCII | re.DOTALL,
    )
    return _Labels(label, index, pattern)


def _number(digits: str) -> int:
    # Long runs of digits cannot name an option, and int() refuses the longest.
    return int(digits) if len(digits) <= 2 else 99


_KINDS: Mapping[str, _Labels] = {
    "a0": _kind("a([0-9]+)", option_label, _number),
    "letters": _kind("([a-z])", lambda i: ascii_uppercase[i], lambda c: ord(c.upper()) - 65),
    "numbers": _kind("([0-9]+)", lambda i: str(i + 1), lambda digits: _number(digits) - 1),
}


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How answers are written in a game.

    Internally labels are always `a0` onward (`Action.argument`). This class defines what is shown.

    Attributes:
        ask: See `EnvConfig.ask`.
        labels: See `EnvConfig.labels`.
    """

    ask: str = CHOICE
    labels: str = "a0"

    def label(self, index: int) -> str:
        """The label of an option, as it is shown."""
        return _KINDS[self.labels].label(index)

    def shown(self, options: Sequence[str]) -> tuple[str, ...]:
        """Options as shown. Labels inside options are written in this form, too."""
        return tuple(options) if self.labels == "a0" else show_labels(options, self.label)

    def read(self, text: str, options: int | Sequence[str]) -> Outcome:
        """Parse an answer into an action.

        Args:
            text: The text of the answer.
            options: See `read_answer`. Without options, the answer is free text, or a stretch of
                time if the game asks for one.
        """
        n_options = options if isinstance(options, int) else len(options)
        if n_options == 0:
            return self._stretch(text) if self.ask == WHEN else Action(ANSWER, text)
        read = read_answer(text, options, self.labels)
        if isinstance(read, MalformedKind):
            last = self.label(n_options - 1)
            return Malformed(read, {"said": text[:40], "last": last})
        return Action(ANSWER, option_label(read))

    def written(self, action: Action) -> str:
        """Write an answer: the inverse of `read`."""
        choice = action.choice
        if self.labels == "a0" or self.ask != CHOICE or choice is None:
            return action.argument or ""
        return self.label(choice)

    def _stretch(self, text: str) -> Outcome:
        bare = text.strip().strip("\"'`*_ ")
        spans = read_spans(bare[:_LONGEST])
        if isinstance(spans, str):
            details = {"tag": ANSWER, "said": text[:40], "problem": spans}
            return Malformed(MalformedKind.WRONG_ARGUMENTS, {**details, "expected": EXPECTED_SPAN})
        return Action(ANSWER, write_spans(spans))


def read_answer(text: str, options: int | Sequence[str], labels: str = "a0") -> int | MalformedKind:
    """Index of the option that an answer names, or what is wrong with it.

    Args:
        text: The text of the answer.
        options: The options' texts in the dataset. Or their number, if the texts are unknown: the
            answer must then be only a label.
        labels: The kind of labels shown.
    """
    n_options = options if isinstance(options, int) else len(options)
    kind = _KINDS[labels]
    plain = _PLAIN.fullmatch(text) if labels == "a0" else None
    if plain is not None and int(plain[1]) < n_options:
        return int(plain[1])
    if len(text) > _LONGEST:
        return MalformedKind.NOT_A_LABEL
    bare = text
    for _ in range(_NESTED):
        bare = _COMMAND.sub(r"\1", bare)
    match = kind.pattern.fullmatch(bare.strip(_AROUND))
    if match is None:
        return MalformedKind.NOT_A_LABEL
    choice = kind.place(match[1])
    if not 0 <= choice < n_options:
        return MalformedKind.NOT_A_LABEL if match["text"] else MalformedKind.UNKNOWN_OPTION
    if match["text"] and (
        isinstance(options, int)
        or _words(match["text"]) != _words(AnswerForm(labels=labels).shown(options)[choice])
    ):
        return MalformedKind.NOT_A_LABEL
    return choice


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
