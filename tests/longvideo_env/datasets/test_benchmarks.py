import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pysubs2")

from longvideo_env import LongTVQAEnv, load_dataset
from longvideo_env.datasets.own.answer_keys import answer_index, without_labels
from longvideo_env.errors import (
    AnswerOutOfRangeError,
    DatasetNotFoundError,
    InvalidRowError,
    MissingOptionError,
)
from longvideo_env.ids import is_video_id, parse_clip_id, safe_video_id

SRT = "1\n00:00:02,000 --> 00:00:04,000\nfirst\n\n2\n00:01:10,000 --> 00:01:12,000\nsecond\n"
Make = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write files and return the spec of the folder."""

    def write(name: str, **files: Any) -> str:
        for path, content in files.items():
            target = tmp_path / path.replace("__", ".").replace("_in_", "/")
            target.parent.mkdir(exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content)
            target.write_text(text, encoding="utf-8")
        return f"{name}:{tmp_path}"

    return write


CG: dict[str, Any] = {
    "qid": 5,
    "video_uid": "-aB_c--",
    "question": "What falls?",
    "choices": ["a cup", "a lamp", "a vase"],
    "right_answer": "C",
    "clue_intervals": [[70, 75.5], [50, 65]],
    "duration": 130,
    "sub_category": "event",
}


def test_cgbench_has_clues_as_gold_spans(make: Make) -> None:
    spec = make("cgbench", cgbench__json=[CG], **{"subtitles_in_-aB_c--__srt": SRT})
    dataset = load_dataset(spec, "test")
    (task,) = dataset
    video = dataset.video(task)
    assert [line.text for clip in video.clips for line in clip.subtitles] == ["first", "second"]
    assert video.clips[1].subtitles[0].start_s == 10
    first, second, third = video.clip_ids
    assert task.gold.answer == 2
    assert task.gold.clues == ((second, 10, 15.5), (first, 50, 60), (second, 0, 5))
    assert (task.gold.clip_id, task.gold.span) == (second, (10, 15.5))
    assert task.gold.clip_ids == (second, first)
    assert third not in task.gold.clip_ids
    assert (video.clips[2].start_s, task.question.show) == (120, "event")
    assert load_dataset(spec, "test") is dataset
    env = LongTVQAEnv(dataset=spec, split="test", reward="paper,grounding=1")
    text, _ = env.reset(seed=0, options={"qid": 5})
    assert "a2: a vase" in text
    assert env.step("<answer>a2</answer>")[4]["reward_terms"]["grounding"] in (0.0, 1.0)


def test_videomme_takes_labels_off_the_options(make: Make) -> None:
    row = {
        "videoID": "xyz",
        "question_id": "001-1",
        "question": "Where?",
        "options": ["A. On a hill.", "B. At sea.", "C. A. Smith's.", "D. Here."],
        "answer": "C",
        "duration": "long",
    }
    spec = make("videomme", videomme__json=[row], subtitle_in_xyz__srt=SRT)
    (task,) = load_dataset(spec, "test")
    assert task.question.options == ("On a hill.", "At sea.", "A. Smith's.", "Here.")
    assert (task.gold.answer, task.gold.clip_id, task.question.show) == (2, None, "long")
    assert len(load_dataset(spec, "test").video(task).clips) == 2


def test_longvideobench_reads_both_kinds_of_subtitles(make: Make) -> None:
    row = {
        "id": "v_0",
        "video_id": "v",
        "question": "Then?",
        "candidates": ["yes", "no"],
        "correct_choice": 1,
        "duration": 100.0,
        "subtitle_path": "v.json",
        "starting_timestamp_for_subtitles": 10,
        "question_category": "T3O",
    }
    lines = [
        {"start": "00:00:05.000", "end": "00:00:08.000", "line": "before the video"},
        {"start": "00:00:15.500", "end": "00:00:18.000", "line": "<b>in it</b>"},
        {"timestamp": [80, None], "text": "later"},
        {"timestamp": ["x", 3], "text": "bad"},
        7,
    ]
    spec = make("longvideobench", lvb_val__json=[row], subtitles_in_v__json=lines)
    dataset = load_dataset(spec, "val")
    video = dataset.video(dataset[0])
    assert [(x.text, x.start_s) for c in video.clips for x in c.subtitles] == [
        ("in it", 5.5),
        ("later", 10.0),
    ]
    assert dataset[0].gold.answer == 1
    hostile = {**row, "subtitle_path": "../../etc/passwd"}
    spec = make("longvideobench", lvb_val__json=[hostile])
    dataset = load_dataset(spec, "val")
    assert not any(clip.subtitles for clip in dataset.video(dataset[0]).clips)


def test_egoschema_has_captions_and_no_dialogue(make: Make) -> None:
    options = {f"option {i}": f"C does {i}" for i in range(5)}
    rows = [{"q_uid": q, "question": "What?", **options} for q in ("aa-1", "bb-2")]
    spec = make(
        "egoschema",
        questions__json=rows,
        subset_answers__json={"bb-2": 4},
        captions__json={
            "aa-1": ["opens a box"] * 180,
            "bb-2": [{"start_s": 40, "end_s": 42, "text": "cuts an onion"}],
        },
    )
    assert [task.gold.answer for task in load_dataset(spec, "test")] == [None, 4]
    dataset = load_dataset(spec, "val")
    (task,) = dataset
    clips = dataset.video(task).clips
    assert [len(clip.captions) for clip in clips] == [0, 1, 0, 0, 0, 0]
    assert (clips[1].captions[0].text, clips[1].captions[0].start_s) == ("cuts an onion", 10)
    every = load_dataset(spec, "test")
    assert [len(clip.captions) for clip in every.video(every[0]).clips] == [30] * 6


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"right_answer": "H"}, AnswerOutOfRangeError),
        ({"choices": ["one"]}, MissingOptionError),
        ({"choices": [str(i) for i in range(17)]}, MissingOptionError),
        ({"choices": None}, MissingOptionError),
        ({"clue_intervals": [[1, "x"]]}, InvalidRowError),
        ({"question": ""}, InvalidRowError),
    ],
)
def test_wrong_rows_are_named_or_left_out(
    make: Make, change: dict[str, Any], error: type[InvalidRowError]
) -> None:
    rows: list[Any] = [{**CG, **change}, {**CG, "qid": 6}]
    with pytest.raises(error, match="row 1"):
        load_dataset(make("cgbench", cgbench__json=rows), "test")
    spec = make("cgbench", cgbench__json=[*rows, {**CG, "qid": 6}, 3])
    dataset = load_dataset(spec, "test", skip_invalid=True)
    assert [task.qid for task in dataset] == [6, "6#2"]  # a repeated id is made unique
    assert len(dataset.skipped) == 2
    assert "left out: " in dataset.coverage.lines()[0]


def test_a_split_that_is_not_there(make: Make) -> None:
    with pytest.raises(DatasetNotFoundError, match="expected the questions in cgbench or"):
        load_dataset(make("cgbench", x__json=[]), "test")
    with pytest.raises(DatasetNotFoundError, match="no split 'val'; splits: test, hard, mini"):
        load_dataset(make("cgbench"), "val")


def test_options_and_answers() -> None:
    assert without_labels(["A. x", "B. y"]) == ["x", "y"]
    assert without_labels(["A. x", "C. y"]) == ["A. x", "C. y"]
    assert without_labels(["A cat", "B cell"]) == ["A cat", "B cell"]
    assert [answer_index(v) for v in ("A", "(B)", "c", 3, None)] == [0, 1, "c", 3, None]


@pytest.mark.parametrize("name", ["../../etc", "", "-x_", "日本", "a b", "x" * 300, "a\x00b", "é"])
def test_any_name_makes_a_safe_id(name: str) -> None:
    video_id = safe_video_id(name)
    assert is_video_id(video_id)
    parsed = parse_clip_id(f"{video_id}_seg01_clip_00")
    assert parsed is not None
    assert parsed.video_id == video_id
    assert safe_video_id(name + "!") != video_id
    assert safe_video_id("s01e01") == "s01e01"
