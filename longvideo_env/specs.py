"""Parses specs, the text form of all parts: `name:argument,key=value`.

    parse_spec("openai:gpt-4o@local,frames=16")   # name openai, argument gpt-4o@local
    parse_spec("my_tools:transcribe")             # a function of a module
    find_part("policies", "my_parts:guess")       # entry point `guess`, or attribute of a module

A part is found by entry point (group `longvideo_env.KIND`) or as `module:attribute`. Modules in the
working folder are found, as with `python -m`.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module, invalidate_caches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from longvideo_env.errors import MissingExtraError, SpecError

T = TypeVar("T")

_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
}

_CALLED = {
    "policies": "policy",
    "grounding": "grounding agent",
    "vision": "vision agent",
    "terms": "reward term",
    "speech": "reader of speech",
    "screen_text": "reader of text in frames",
    "captioners": "captioner",
    "embeddings": "model of embeddings",
}
"""Names of kinds in messages, if not just the kind without its s."""

_OPTION = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[^:]*\.py:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Spec:
    """A parsed spec.

    Attributes:
        name: The part before the first colon.
        argument: The part after the colon, without the options; may be empty.
        options: The `key=value` parts at the end, as text.
        text: The whole spec, as given.
    """

    name: str
    argument: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def read(self, cls: Callable[..., T]) -> T:
        """Convert the options to a dataclass of plain values.

        Raises:
            SpecError: An option is unknown, or a value has the wrong type.
        """
        known = {item.name: item for item in fields(cast(Any, cls))}
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for key, value in self.options.items():
            if key not in known:
                raise SpecError(f"{self.text!r}: {unknown('option', key, known)}")
            values[key] = _typed(self.text, key, value, hints[key])
        missing = [
            name
            for name, item in known.items()
            if name not in values and item.default is MISSING and item.default_factory is MISSING
        ]
        if missing:
            raise SpecError(f"{self.text!r} needs {missing[0]}=VALUE.")
        return cls(**values)


def parse_spec(text: str) -> Spec:
    """Parse a spec.

    Raises:
        SpecError: The spec is empty, or an option occurs twice.
    """
    name, _, rest = text.partition(":")
    if not name.strip():
        raise SpecError(f"expected NAME or NAME:ARGUMENT,KEY=VALUE, got {text!r}.")
    parts = rest.split(",") if rest else []
    options: dict[str, str] = {}
    while parts and (match := _OPTION.fullmatch(parts[-1])):
        if match[1] in options:
            raise SpecError(f"the option {match[1]!r} occurs twice in {text!r}.")
        options[match[1]] = match[2].strip()
        parts.pop()
    return Spec(name.strip(), ",".join(parts).strip(), dict(reversed(options.items())), text)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name, with the closest name and all known ones."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {name!r}.{hint} There are: {', '.join(names)}."


def is_attribute(text: str) -> bool:
    """Whether a spec has the form `module:attribute` or `file.py:attribute`."""
    return _ATTRIBUTE.fullmatch(text) is not None


def load_attribute(text: str) -> Any:
    """Load the object that `module:attribute` or `file.py:attribute` names.

    Raises:
        SpecError: There is no such module or attribute, or importing it fails.
    """
    module_name, _, attribute = text.rpartition(":")
    try:
        value = _load_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    except AttributeError as error:
        public = [n for n in vars(_load_module(module_name)) if not n.startswith("_")]
        raise SpecError(f"{text!r}: {unknown('attribute', attribute, public)}") from error
    return value


@cache
def entry_point_names(kind: str) -> Mapping[str, EntryPoint]:
    """The parts of a kind that packages declare: name -> entry point."""
    return {point.name: point for point in _declared().select(group=f"longvideo_env.{kind}")}


def find_part(kind: str, text: str, own: Mapping[str, Any] | None = None) -> Any:
    """Find a part by name.

    Args:
        kind: Such as `tools` for the entry points of the group `longvideo_env.tools`.
        text: The name, without an argument; or `module:attribute`.
        own: Built-in parts, by name.

    Raises:
        SpecError: There is no such part. The message lists the known ones.
        MissingExtraError: The part needs a package that is not installed.
    """
    if own is not None and text in own:
        return own[text]
    points = entry_point_names(kind)
    if text in points:
        return points[text].load()
    if is_attribute(text):
        return load_attribute(text)
    names = {*points, *(own or {})}
    what = _CALLED.get(kind, kind.rstrip("s"))
    raise SpecError(f"{unknown(what, text, names)} Or give module:attribute.")


@cache
def _declared() -> Any:
    """All entry points. Read once, since it takes 10 ms if many packages are installed."""
    return entry_points()


def _load_module(name: str) -> Any:
    path = Path(name)
    if name.endswith(".py"):
        if not path.is_file():
            raise SpecError(f"there is no file {name!r}.")
        folder, name = str(path.resolve().parent), path.stem
    else:
        folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
        invalidate_caches()
    try:
        return import_module(name)
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise SpecError(
                f"no module {name!r} in {folder} or among the installed packages."
            ) from error
        raise SpecError(f"importing {name!r} failed: {error}") from error
    except Exception as error:
        raise SpecError(f"importing {name!r} failed: {type(error).__name__}: {error}") from error


def _typed(text: str, key: str, value: str, hint: Any) -> Any:
    plain = next((t for t in _KINDS if hint in (t, t | None)), str)
    try:
        if plain is bool:
            return {"true": True, "false": False}[value.lower()]
        typed = plain(value)
        if plain is float and not math.isfinite(typed):
            raise ValueError(value)
        return typed
    except (ValueError, KeyError) as error:
        raise SpecError(f"{text!r}: {key} is {_KINDS[plain]}, got {value!r}.") from error
