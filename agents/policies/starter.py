"""Resolves a model's name: the built-in starter policy, a GGUF file, or a folder."""

from __future__ import annotations

from importlib.resources import files

STARTER = "mini-starter"
"""Its name in all options for models: `hf:mini-starter`, `--model-name-or-path mini-starter`."""

GGUF = ".gguf"


def resolve_model(name: str) -> str:
    """The folder of a model. A path or a hub id is returned unchanged.

    The starter policy's name gives its folder. A GGUF file is converted at first use and cached.

    Raises:
        MissingExtraError: The name is a GGUF file, and the package to read it is not installed.
        SpecError: There is no such GGUF file, or it cannot be read.
    """
    if name.endswith(GGUF):
        from agents.generation.gguf_file import gguf_folder  # torch is an extra

        return str(gguf_folder(name))
    return str(files("agents") / "starter") if name == STARTER else name
