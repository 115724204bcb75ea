"""Plain values that come from outside: text that can be written, numbers that can be counted with.

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
    """A reply as a `str` that can be written as UTF-8.

    Half a pair of UTF-16, which no file can hold, becomes the replacement character.

    Raises:
        ActionError: It is no text.
    """
    if not isinstance(value, str):
        fix = " Fix: decode it." if isinstance(value, bytes | bytearray) else ""
        raise ActionError(
            f"expected the reply as text, got {type(value).__name__}: {value!r:.60}.{fix}"
        )
    text = value if type(value) is str else str.__str__(value)
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def check_field(owner: Any, name: str) -> None:
    """Check one field of a dataclass by its type hint: no bool for a number, no nan, no inf.

    Raises:
        SpecError: It holds something else.
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
        leave: Fields that may hold anything.

    Raises:
        SpecError: A field holds something else than its type hint says.
    """
    for item in fields(owner):
        if item.name not in leave:
            check_field(owner, item.name)


@cache
def _adapters(cls: Hashable) -> Mapping[str, TypeAdapter[Any]]:
    """A strict check for each field of plain values."""
    assert isinstance(cls, type)
    hints = get_type_hints(cls)
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    made = {}
    for item in fields(cls):
        try:
            made[item.name] = TypeAdapter(hints[item.name], config=strict)
        except PydanticUserError:  # a dataclass has a configuration of its own
            made[item.name] = TypeAdapter(hints[item.name])
    return made
