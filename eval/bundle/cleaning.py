"""Remove what must not leave this machine: paths, user names, keys, and texts of licensed data.

clean = clean_paths("hf:/home/someone/runs/grpo")      # hf:grpo
line = without_texts(record)                           # prompts and observations as hashes
find_secrets({"config.json": ...}, folders)            # secrets that still remain
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

OPEN_DATA = ("mini", "embedded")
"""This project's own datasets. Their texts may be shared."""

LEFT_OUT = "[left out, sha256:"

_PATH = re.compile(r"(?<![\w<./~\\])(?:/(?!/)|[A-Za-z]:[\\/])[\w.@~%$-]+(?:[\\/]+[\w.@~%$-]+)*/?")
_KEY = re.compile(r"\b(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|AIza[A-Za-z0-9_-]{30,})")
_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)\Z")
_SHORTEST_SECRET = 8


def clean_paths(text: str) -> str:
    """A text with absolute paths cut down to their last part. Web addresses stay."""
    text = text.replace(f"{Path.home()}{os.sep}", "")
    return _PATH.sub(lambda match: re.split(r"[\\/]+", match[0].rstrip("\\/"))[-1], text)


def clean_values(value: Any) -> Any:
    """Plain values with cleaned texts, also in the keys of mappings."""
    if isinstance(value, str):
        return clean_paths(value)
    if isinstance(value, Mapping):
        return {clean_paths(str(key)): clean_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_values(item) for item in value]
    return value


def clean_episode(record: dict[str, Any]) -> dict[str, Any]:
    """Clean a saved episode. The model's prompts and replies stay byte for byte."""
    record = dict(record)
    for name in ("policy", "error", "reward_error"):
        record[name] = clean_values(record[name])
    record["turns"] = [_clean_turn(turn) for turn in record["turns"]]
    record["first"] = None if record["first"] is None else _clean_turn(record["first"])
    return record


def _clean_turn(turn: dict[str, Any]) -> dict[str, Any]:
    result = turn["result"]
    if result is None:
        return turn
    cleaned = {name: clean_values(result[name]) for name in ("agent", "error", "details")}
    return {**turn, "result": {**result, **cleaned}}


def without_texts(record: dict[str, Any]) -> dict[str, Any]:
    """Replace the texts that the environment showed in a saved episode by their hashes.

    The question, its options, the policy's replies and the tools' replies stay, because figures
    depend on them.
    """
    return {**record, "segments": [_without_text(segment) for segment in record["segments"]]}


def _without_text(segment: dict[str, Any]) -> dict[str, Any]:
    if segment["sampled"] or segment["text"].startswith(LEFT_OUT):
        return segment
    digest = sha256(segment["text"].encode("utf-8", "surrogatepass")).hexdigest()
    return {**segment, "text": f"{LEFT_OUT}{digest}]", "token_ids": None, "logprobs": None}


def is_open(dataset: object) -> bool:
    """Whether a dataset's texts may be shared."""
    name = str(dataset).rpartition("@")[2]  # variant:NAME@DATASET
    return name.partition(":")[0] in OPEN_DATA


def find_secrets(files: Mapping[str, bytes], folders: Iterable[Path]) -> list[str]:
    """Describe secrets in files that must not leave this machine, without repeating them.

    Args:
        files: The files by name.
        folders: Folders whose absolute paths count as secrets, besides the home folder.
    """
    places = {str(Path.home()), *(str(folder.resolve()) for folder in folders)}
    needles = {f"{place}/": "a path of this machine" for place in places if len(place) > 1}
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name.upper()) and len(value) >= _SHORTEST_SECRET:
            needles[value] = f"the value of {name}"
    found = []
    for name, content in files.items():
        text = content.decode("utf-8", "replace")
        found += [f"{name} holds {what}" for needle, what in needles.items() if needle in text]
        if _KEY.search(text):
            found.append(f"{name} seems to hold a key")
    return found
