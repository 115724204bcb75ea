"""Checks values from outside: text must be valid UTF-8, numbers must be finite.

check_fields(settings)           # SpecError: temperature: expected a finite number, got nan
plain_text(np.str_("<answer>"))  # "<answer>", a str
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from longvideo_env.errors import ActionError, SpecError

_HALVES = re.compile("[\ud800-\udfff]")


def plain_text(value: Any) -> str:
    """A reply as a `str` that can be encoded as UTF-8.

    A lone surrogate becomes the replacement character.

    Raises:
        ActionError: The reply is not text.
    """
    if not isinstance(value, str):
        fix = " Fix: decode it." if isinstance(value, bytes | bytearray) else ""
        raise ActionError(
            f"expected the reply as text, got {type(value).__name__}: {value!r:.60}.{fix}"
        )
    text = value if type(value) is str else str.__str__(value)
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def check_field(owner: Any, name: str) -> None:
    """Check a field of a dataclass against its type hint. No bool as a number, no nan, no inf.

    Raises:
        SpecError: The value does not match.
    """
    value = getattr(owner, name)
    try:
        _adapters(owner.__class__)[name].validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise SpecError(
            f"{name}: {problem[:1].lower()}{problem[1:]}, got {value!r:.80} "
            f"({type(value).__name__})."
        ) from error


def check_fields(owner: Any, leave: Collection[str] = ()) -> None:
    """Check all fields of a dataclass of plain values.

    Args:
        owner: The dataclass.
        leave: Fields to skip.

    Raises:
        SpecError: A field does not match its type hint.
    """
    for item in fields(owner):
        if item.name not in leave:
            check_field(owner, item.name)


@cache
def _adapters(cls: Hashable) -> Mapping[str, TypeAdapter[Any]]:
    """A strict validator for each field."""
    assert isinstance(cls, type)
    hints = get_type_hints(cls)
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    made = {}
    for item in fields(cls):
        try:
            made[item.name] = TypeAdapter(hints[item.name], config=strict)
        except PydanticUserError:  # a dataclass has its own configuration
            made[item.name] = TypeAdapter(hints[item.name])
    return made
