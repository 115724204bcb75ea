"""One grammar for every part that is named in text: `name:argument,key=value`.

    parse_spec("openai:gpt-4o@local,frames=16")   # name openai, argument gpt-4o@local
    parse_spec("my_tools:transcribe")             # a function of a module
    find_part("policies", "my_parts:guess")       # entry point `guess`, or attribute of a module

A part is found by entry point (group `longvideo_env.KIND`), or as `module:attribute`; the working
folder counts, as it does for `python -m`.
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
"""What a message calls one part of a kind, where that is not the kind without its s."""

_OPTION = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[^:]*\.py:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Spec:
    """A spec, taken apart.

    Attributes:
        name: What stands before the first colon.
        argument: What follows it, without the options; empty where there is none.
        options: The `key=value` parts at its end, as text.
        text: The whole, as given.
    """

    name: str
    argument: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def read(self, cls: Callable[..., T]) -> T:
        """The options as a dataclass of plain values.

        Raises:
            SpecError: No such option, or a value of another type.
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
    """Take a spec apart.

    Raises:
        SpecError: It is empty, or an option stands twice.
    """
    name, _, rest = text.partition(":")
    if not name.strip():
        raise SpecError(f"expected NAME or NAME:ARGUMENT,KEY=VALUE, got {text!r}.")
    parts = rest.split(",") if rest else []
    options: dict[str, str] = {}
    while parts and (match := _OPTION.fullmatch(parts[-1])):
        if match[1] in options:
            raise SpecError(f"{match[1]!r} stands twice in {text!r}.")
        options[match[1]] = match[2].strip()
        parts.pop()
    return Spec(name.strip(), ",".join(parts).strip(), dict(reversed(options.items())), text)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """What to say of a name that does not exist: the nearest one, and all there are."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {name!r}.{hint} There are: {', '.join(names)}."


def is_attribute(text: str) -> bool:
    """Whether a spec has the form `module:attribute` or `file.py:attribute`."""
    return _ATTRIBUTE.fullmatch(text) is not None


def load_attribute(text: str) -> Any:
    """What `module:attribute` or `file.py:attribute` names.

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
    """The parts of a kind that packages declare: name to entry point."""
    return {point.name: point for point in _declared().select(group=f"longvideo_env.{kind}")}


def find_part(kind: str, text: str, own: Mapping[str, Any] | None = None) -> Any:
    """The part that a name stands for.

    Args:
        kind: Such as `tools`: entry points of the group `longvideo_env.tools` count.
        text: The name, without an argument; or `module:attribute`.
        own: Parts that are built in, by name.

    Raises:
        SpecError: There is no such part; the message lists what there is.
        MissingExtraError: It needs a package that is not installed.
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
    """All entry points. They are read once: it takes 10 ms where many packages are installed."""
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
                f"there is no module {name!r} here ({folder}) or among what is installed."
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
