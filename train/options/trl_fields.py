"""The names of TRL's options, read from its source: importing TRL takes many seconds."""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_FILES = (
    ("trl", "trainer/base_config.py"),
    ("trl", "trainer/model_config.py"),
    ("transformers", "training_args.py"),
)
_SWITCHES = ("bool", "bool | None")


@lru_cache(maxsize=4)
def trl_fields(config: str) -> dict[str, bool]:
    """Option -> whether it is a switch; nothing where the packages are laid out otherwise.

    Args:
        config: TRL's module of the trainer's options, such as `grpo_config`.
    """
    found: dict[str, bool] = {}
    for package, path in (("trl", f"trainer/{config}.py"), *_FILES):
        spec = find_spec(package)  # imports nothing
        file = Path(*(spec.submodule_search_locations or ()) if spec else (), path)
        if spec is None or not file.is_file():
            return {}
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found |= _fields(node)
    return found


def _fields(cls: ast.ClassDef) -> dict[str, bool]:
    found = {}
    for item in cls.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            name, default = item.target.id, ast.unparse(item.value or ast.Constant(None))
            is_switch = ast.unparse(item.annotation) in _SWITCHES
            found[name] = is_switch
            if is_switch and "default=True" in default:
                found[f"no_{name}"] = True
    return found
