import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def row() -> dict[str, Any]:
    """A valid question in the layout of LongTVQA+."""
    return {
        "qid": 1,
        "q": "What is on the table ?",
        "a0": "a lamp",
        "a1": "a cup",
        "a2": "a book",
        "answer": "a2",
        "ts": [1.5, 7],
        "episode_name": "s05e02",
        "occur_clip": "s05e02_seg02_clip_00",
        "bbox": {"4": [{"img_id": 4, "label": "table"}]},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset. Keywords are file names with `__` for the dot. Text is written unchanged."""

    def write(**files: Any) -> Path:
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name.replace("__", ".")).write_text(text, encoding="utf-8")
        return tmp_path

    return write
