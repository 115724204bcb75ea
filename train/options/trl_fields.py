"""TRL's options, read from its source code, because importing TRL takes many seconds."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_FILES = (
    ("trl", "trainer/base_config.py"),
    ("trl", "trainer/model_config.py"),
    ("transformers", "training_args.py"),
)
_SWITCHES = ("bool", "bool | None")


_NAMED = re.compile(r"Supported values are (.+?)\.")
_QUOTED = re.compile(r"'(\w+)")
_NUMBERS: dict[str, tuple[Callable[[str], object], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
}


@lru_cache(maxsize=4)
def trl_fields(config: str) -> dict[str, bool]:
    """Map each option to whether it is a switch. Empty if the packages have another layout.

    Args:
        config: TRL's module with the trainer's options, such as `grpo_config`.
    """
    found: dict[str, bool] = {}
    for name, (annotation, default) in _declared(config).items():
        found[name] = annotation in _SWITCHES
        if found[name] and "default=True" in default:
            found[f"no_{name}"] = True
    return found


def wrong_value(config: str, name: str, value: str) -> str | None:
    """What TRL expects of an option, if a value does not fit. None if it fits.

    Numbers and choices (`save_strategy`, `lr_scheduler_type` ...) are checked. Only TRL checks
    whether a number is in range or a text is valid.
    """
    annotation, default = _declared(config).get(name, ("", ""))
    named = _NAMED.search(default)  # loss_type names its values only in its help
    if named is not None and value not in (values := _QUOTED.findall(named[1])):
        return f"expected one of {', '.join(values)}"
    kinds = [kind for kind in annotation.split(" | ") if kind not in ("None", "str")]
    if "None" in annotation and value.lower() == "none":
        return None
    if len(kinds) != 1:
        return None
    if kinds[0] in _NUMBERS:
        read, expected = _NUMBERS[kinds[0]]
        try:
            read(value)
        except ValueError:
            return f"expected {expected}"
    choices = _choices().get(kinds[0])
    if choices and value not in choices:
        return f"expected one of {', '.join(choices)}"
    return None


@lru_cache(maxsize=4)
def _declared(config: str) -> dict[str, tuple[str, str]]:
    """Map each option to its annotation and its default, as written in the source."""
    found: dict[str, tuple[str, str]] = {}
    for package, path in (("trl", f"trainer/{config}.py"), *_FILES):
        body = _source(package, path)
        if body is None:
            return {}
        for cls in body:
            for item in cls.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    default = ast.unparse(item.value or ast.Constant(None))
                    found.setdefault(item.target.id, (ast.unparse(item.annotation), default))
    return found


@lru_cache(maxsize=1)
def _choices() -> dict[str, list[str]]:
    """The values of transformers' string enumerations."""
    return {
        cls.name: [
            str(item.value.value)
            for item in cls.body
            if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant)
        ]
        for cls in _source("transformers", "trainer_utils.py") or ()
        if any(ast.unparse(base) == "ExplicitEnum" for base in cls.bases)
    }


def _source(package: str, path: str) -> list[ast.ClassDef] | None:
    """The classes of a module, without importing it. None if the file does not exist."""
    spec = find_spec(package)
    file = Path(*(spec.submodule_search_locations or ()) if spec else (), path)
    if spec is None or not file.is_file():
        return None
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return [node for node in body if isinstance(node, ast.ClassDef)]
