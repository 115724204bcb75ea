"""What a model's name stands for: the starter policy that ships, a GGUF file, or a folder."""

from __future__ import annotations

from importlib.resources import files

STARTER = "mini-starter"
"""Its name, wherever a model is named: `hf:mini-starter`, `--model-name-or-path mini-starter`."""

GGUF = ".gguf"


def resolve_model(name: str) -> str:
    """The folder that holds a model; a folder's path or an id of the hub is returned as it is.

    The starter policy's name stands for its folder. A GGUF file is converted at its first use and
    kept in the cache.

    Raises:
        MissingExtraError: The name is a GGUF file's, and what reads it is not installed.
        SpecError: There is no such GGUF file, or it cannot be read.
    """
    if name.endswith(GGUF):
        from agents.generation.gguf_file import gguf_folder  # torch is an extra

        return str(gguf_folder(name))
    return str(files("agents") / "starter") if name == STARTER else name
