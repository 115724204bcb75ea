"""Reads options and answers in the forms that files use, as texts and an index.

read_options("['A. yes', 'B. no']")            # ["yes", "no"]
read_answer("B", ["yes", "no"])                # 1; so are "a1", 1, "1", "(B)" and "no"
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

_LABELLED = re.compile(r"\s*\(?([A-Pa-p])\s*[.):]\s*")
_LETTER = re.compile(r"\s*\(?\s*([A-Pa-p])\s*\)?\s*[.:]?\s*")
_LABEL = re.compile(r"\s*a([0-9]{1,2})\s*")
_INDEX = re.compile(r"\s*([0-9]{1,2})(?:\.0)?\s*")


def is_absent(value: object) -> bool:
    """Whether a cell is empty: null, NaN or blank."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def read_options(value: object) -> list[Any]:
    """Options from a list, an object with letters as keys, or a text with either. Drops labels."""
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value, key=str)]
    if isinstance(value, tuple):
        value = list(value)
    return without_labels(value)


def without_labels(options: object) -> list[Any]:
    """Options without labels such as `A. ` or `(B) `, if every option carries its own in order."""
    if not isinstance(options, list):
        return []
    found = [_LABELLED.match(option) if isinstance(option, str) else None for option in options]
    labels = [match[1].upper() if match else None for match in found]
    if labels != list(ascii_uppercase[: len(options)]):
        return options
    return [option[match.end() :] for option, match in zip(options, found, strict=True) if match]


def answer_index(value: object) -> object:
    """`"C"`, `"(C)"` or `"C."` as 2, and digits as a number.

    Anything else is returned unchanged.
    """
    if isinstance(value, str):
        if (match := _LETTER.fullmatch(value)) and match[1].isupper():
            return ascii_uppercase.index(match[1])
        if match := _INDEX.fullmatch(value):
            return int(match[1])
    if is_absent(value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_answer(value: object, options: Sequence[str]) -> int | None:
    """Index of the right option from a label, a letter, an index or an option's text.

    Raises:
        ValueError: It names no option, or it names one option as text and another as index or
            letter.
    """
    if is_absent(value) or isinstance(value, bool):
        if isinstance(value, bool):
            raise ValueError(f"got {value!r}")
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        named = {value}
    elif isinstance(value, str):
        named = _named_by(value, options)
    else:
        raise ValueError(f"got {value!r:.60}")
    inside = {index for index in named if 0 <= index < len(options)}
    if not inside:
        raise ValueError(f"got {value!r:.60}")
    if len(inside) > 1:
        meant = " or ".join(f"a{index}" for index in sorted(inside))
        raise ValueError(f"got {value!r:.60}, which may be {meant}; write the label")
    return inside.pop()


def _named_by(text: str, options: Sequence[str]) -> set[int]:
    plain = text.strip()
    same = [i for i, option in enumerate(options) if str(option).strip() == plain]
    if not same:
        same = [i for i, o in enumerate(options) if str(o).strip().lower() == plain.lower()]
    named = set(same[:1])
    if (match := _LABEL.fullmatch(text)) or (match := _INDEX.fullmatch(text)):
        named.add(int(match[1]))
    elif match := _LETTER.fullmatch(text):
        named.add(ascii_uppercase.index(match[1].upper()))
    elif not named and (match := _LABELLED.match(text)):
        index = ascii_uppercase.index(match[1].upper())
        if index < len(options) and str(options[index]).strip() == text[match.end() :].strip():
            named.add(index)
    return named


def _listed(text: str) -> object:
    """Parse a list in a cell: JSON, a Python literal, or one option per line."""
    body = text.strip()
    if body[:1] in ("[", "{"):
        for read in (json.loads, ast.literal_eval):
            try:
                return read(body)
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
    for separator in ("\n", "|"):
        if separator in body:
            return [part.strip() for part in body.split(separator) if part.strip()]
    return []
