r"""Find the option that a baseline's reply names, by five rules in this order.

A baseline asks only once, so it cannot correct the form of a reply. Reasoning is removed first
(`<think>...</think>` and other forms). Then the first matching rule decides:

1. `label`: the text in `<answer>...</answer>` is an answer by the game's own rule
   (`longvideo_env.game.protocol.answers`): `a3`, `(a3)`, `\boxed{a3}`, `a3: he stands`.
2. `option`: it has the words of exactly one option. Case and punctuation do not matter.
3. `leading`: it begins with a label, followed by nothing, or by a full stop, colon, bracket, dash
   or comma and any text: `a3. He says so at 00:12`. A label is `a0` onward, a letter (A is a0), or
   the label's number: `D)`, `3`. "A man walks in" and "3.5 hours" name no option.
4. `sentence`: there is no `<answer>`. The last "answer is X", "answer: X", "option X is correct" or
   `\boxed{X}` counts. X is a label as in 3, or begins with `a3` or a capital letter and continues
   with words: "the answer is B because he says so".
5. `whole`: there is no `<answer>`. The whole reply, or its last line, is read by rules 1 to 3.

A reply is misparsed if a second label follows the first ("a3 or a1", "A, B"), if several `<answer>`
blocks name different options, or if the label is beyond the options.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from longvideo_env.game.matching import plain_words
from longvideo_env.game.protocol.answers import read_answer
from longvideo_env.game.protocol.reasoning import cut_reasoning

_BLOCK = re.compile(r"<answer\s*>(.*?)</answer\s*>", re.DOTALL | re.IGNORECASE)
_AROUND = "\"'`*_()[]{}<>$ \t\r\n“”\u2018\u2019"
_ONE = r"(?:a(?P<{0}a>[0-9]{{1,2}})|(?P<{0}n>[0-9]{{1,2}})|(?P<{0}l>[A-P]))"
_LEADING = re.compile(
    rf"(?:option\s+)?{_ONE.format('')}(?!\w|[.:,][0-9])(?P<rest>\s*[\"'`*)\]}}]*\s*(?:[.:,)\]\u2013\u2014-].*)?)",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_SECOND = re.compile(
    rf"\s*[\"'`*)\]}}.]*\s*(?:,|/|&|\bor\b|\band\b)\s*(?:option\s+)?[\"'`*(]*{_ONE.format('s')}(?!\w)",
    re.IGNORECASE | re.ASCII,
)
_SENTENCE = re.compile(
    r"(?:\banswer\s*(?:is|would\s+be|should\s+be|:)\s*:?\s*(?P<said>[^\n]{1,200})"
    r"|\\boxed\s*\{(?P<boxed>[^{}]{1,200})\}"
    r"|\boption\s+(?P<option>[^\s]{1,6})\s+is\s+(?:the\s+)?(?:correct|right))",
    re.IGNORECASE,
)
_SAID = re.compile(
    r"(?:(?i:option)\s+)?[\"'*`(\[]*(?:[aA](?P<a>[0-9]{1,2})|(?P<l>[B-HJ-P]|A(?!\s+[a-z])))"
    r"(?![\w']|[.:,][0-9])(?P<rest>.*)",
    re.ASCII | re.DOTALL,
)
_LONGEST = 100_000

RULES = ("label", "option", "leading", "sentence", "whole")


class LenientAnswer(NamedTuple):
    """The result of reading a reply.

    Attributes:
        choice: Index of the option, or None.
        rule: The rule that found it, one of `RULES`. Empty if no rule did.
    """

    choice: int | None
    rule: str = ""


NOTHING = LenientAnswer(None)


def read_reply(text: str, options: Sequence[str]) -> LenientAnswer:
    """The option that a reply names. Never raises."""
    rest = cut_reasoning(text[-_LONGEST:])[0].strip()
    blocks = [block.strip() for block in _BLOCK.findall(rest)]
    if blocks:
        found = [_read(block, options) for block in blocks]
        same = len({one.choice for one in found}) == 1
        return found[-1] if same else NOTHING
    for match in reversed(list(_SENTENCE.finditer(rest))):
        said = next(part for part in match.groups() if part is not None)
        named = _leading(said.strip(_AROUND), options, _LEADING)
        if named is None:
            named = _leading(said.strip(), options, _SAID)
        return NOTHING if named is None else LenientAnswer(named, "sentence")  # the last counts
    for part in dict.fromkeys((rest, rest.rpartition("\n")[2].strip())):
        one = _read(part, options)
        if one.choice is not None:
            return LenientAnswer(one.choice, "whole")
    return NOTHING


def _read(text: str, options: Sequence[str]) -> LenientAnswer:
    """Read an answer by rules 1 to 3."""
    strict = read_answer(text, options)
    if isinstance(strict, int):
        return LenientAnswer(strict, "label")
    words = plain_words(text)
    named = [i for i, option in enumerate(options) if words and plain_words(option) == words]
    if len(named) == 1:
        return LenientAnswer(named[0], "option")
    leading = _leading(text.strip(_AROUND), options, _LEADING)
    return NOTHING if leading is None else LenientAnswer(leading, "leading")


def _leading(text: str, options: Sequence[str], form: re.Pattern[str]) -> int | None:
    match = form.fullmatch(text)
    if match is None or _SECOND.match(match["rest"]):
        return None
    found = match.groupdict()
    number = found["a"] or found.get("n")
    place = int(number) if number else ord(str(found["l"]).upper()) - ord("A")
    return place if place < len(options) else None
