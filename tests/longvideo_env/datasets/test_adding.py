"""The table and the reader on the page about new datasets work."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("pysubs2")

from longvideo_env import load_dataset

PAGE = (Path(__file__).parents[3] / "docs" / "adding-a-dataset.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    assert len(found[0].splitlines()) < 40
    return found[0]


def test_the_function_works_and_is_short(tmp_path: Path) -> None:
    (tmp_path / "page_reader.py").write_text(block("python"), encoding="utf-8")
    row = {"id": "q1", "lecture": "day_1", "ask": "Why?", "choices": ["x", "y"], "right": 1}
    rows = [row | {"said_at": [130, 140]}, {**row, "id": "q2", "lecture": "../../etc"}]
    (tmp_path / "lectures.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "talks").mkdir()
    cue = "WEBVTT\n\n02:05.000 --> 02:09.000\n<v Ann>because\n"
    (tmp_path / "talks" / "day_1.vtt").write_text(cue, encoding="utf-8")
    dataset = load_dataset(f"{tmp_path}/page_reader.py:read@{tmp_path}", "test")
    task = dataset.task("q1")
    video = dataset.video(task)
    assert (task.gold.clip_id, task.gold.span) == ("day_1@02:00", (10.0, 20.0))
    assert [(x.text, x.start_s) for x in video["day_1@02:00"].subtitles] == [("Ann : because", 5)]
    assert dataset.video(dataset.task("q2")).video_id.startswith("etc-")
    assert "1 could not be read" in dataset.coverage.lines()[0]


def test_the_table_works(tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text(block("text"), encoding="utf-8")
    (tmp_path / "evening.srt").write_text("1\n00:01:16,000 --> 00:01:18,000\nHello\n", "utf-8")
    dataset = load_dataset(tmp_path / "questions.csv")
    assert [task.gold.answer for task in dataset] == [1, 1]
    assert (dataset[0].gold.clip_id, dataset[0].gold.span) == ("evening@01:00", (15.0, 20.0))
    assert dataset.video(dataset[0])["evening@01:00"].subtitles[0].text == "Hello"


def test_the_files_of_the_layout_work(tmp_path: Path) -> None:
    questions, subtitles = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "LongTVQA_plus_val.json").write_text(questions, encoding="utf-8")
    name = "LongTVQA_plus_subtitle_clip_level.json"
    (tmp_path / name).write_text(subtitles, encoding="utf-8")
    dataset = load_dataset(tmp_path, "val")
    assert [task.gold.answer for task in dataset] == [1, 1, 0]
    assert dataset[0].gold.span == (15.0, 20.0)
    assert len(dataset.video(dataset[0]).clips) == 2
