"""The page on adding a dataset shows a reader that works."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pysubs2")

from longvideo_env import load_dataset
from longvideo_env.datasets import finding

PAGE = Path(__file__).parents[3] / "docs" / "adding-a-dataset.md"


class Point:
    """An entry point."""

    def __init__(self, code: str) -> None:
        self.code = code

    def load(self) -> Any:
        space: dict[str, Any] = {}
        exec(compile(self.code, str(PAGE), "exec"), space)
        return space["read"]


def test_the_example_works_and_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) < 40
    monkeypatch.setattr(finding, "_readers", lambda: {"lectures": Point(code)})
    row = {"id": "q1", "lecture": "day_1", "ask": "Why?", "choices": ["x", "y"], "right": 1}
    rows = [row | {"said_at": [130, 140]}, {**row, "id": "q2", "lecture": "../../etc"}]
    (tmp_path / "lectures.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "talks").mkdir()
    cue = "WEBVTT\n\n02:05.000 --> 02:09.000\n<v Ann>because\n"
    (tmp_path / "talks" / "day_1.vtt").write_text(cue, encoding="utf-8")
    dataset = load_dataset(f"lectures:{tmp_path}", "test")
    task = dataset.task("q1")
    video = dataset.video(task)
    assert (task.gold.clip_id, task.gold.span) == (video.clip_ids[1], (10.0, 20.0))
    assert (video.clips[1].subtitles[0].text, video.clips[1].subtitles[0].start_s) == (
        "Ann : because",
        5.0,
    )
    assert dataset.video(dataset.task("q2")).video_id.startswith("etc-")
