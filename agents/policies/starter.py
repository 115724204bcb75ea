"""The starter policy that ships with the package: a tiny model that half knows the mini world."""

from __future__ import annotations

from importlib.resources import files

STARTER = "mini-starter"
"""Its name, wherever a model is named: `hf:mini-starter`, `--model_name_or_path mini-starter`."""


def resolve_model(name: str) -> str:
    """The folder of the starter policy for its name; any other name or path as it is."""
    return str(files("agents") / "starter") if name == STARTER else name
