import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pysubs2")

from longvideo_env import LongTVQAEnv, load_dataset
from longvideo_env.errors import (
    AnswerOutOfRangeError,
    DatasetNotFoundError,
    InvalidRowError,
    MalformedFileError,
    SpecError,
)

SRT = "1\n00:00:02,000 --> 00:00:04,000\nfirst\n\n2\n00:01:10,000 --> 00:01:12,000\nsecond\n"
ROW: dict[str, Any] = {
    "question": "Who comes in?",
    "options": ["Ann", "Bo", "Cy"],
    "answer": "Bo",
    "video": "film",
    "start_s": 75,
    "end_s": 80,
    "subtitles": SRT,
}


def test_a_list_of_dicts() -> None:
    dataset = load_dataset([ROW, {**ROW, "answer": None, "kind": "who"}])
    first, second = dataset
    assert (first.gold.answer, first.gold.clip_id, first.gold.span) == (1, "film@01:00", (15, 20))
    assert (second.gold.answer, second.question.facts) == (None, (("kind", "who"),))
    video = dataset.video(first)
    assert [line.text for clip in video.clips for line in clip.subtitles] == ["first", "second"]
    assert repr(dataset) == "Dataset(rows, all: 2 questions, 1 videos)"
    assert dataset.source.startswith("rows:")
    assert load_dataset([ROW]).source != load_dataset([{**ROW, "answer": "Ann"}]).source
    assert load_dataset(dataset) is dataset


@pytest.mark.parametrize("answer", ["Bo", "bo", "a1", "B", "(B)", "b", "1", 1, 1.0, "B. Bo"])
def test_answers_in_every_form(answer: object) -> None:
    assert load_dataset([{**ROW, "answer": answer}])[0].gold.answer == 1


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "Dora"},
        {"answer": 3},
        {"answer": "a7"},
        {"answer": True},
        {"options": ["1", "2", "3"], "answer": "1"},  # an index and a text
    ],
)
def test_answers_that_name_no_option(change: dict[str, Any]) -> None:
    with pytest.raises(AnswerOutOfRangeError, match="row 1: question q1: expected an answer"):
        load_dataset([{**ROW, **change}])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"question": ""}, "expected a question text in 'question'"),
        ({"options": ["one"]}, "expected 2 to 16 options in 'options', got 1"),
        ({"start_s": 90}, "a start from 0 on and an end after it"),
        ({"start_s": -3, "end_s": 9999}, "a start from 0 on"),
        ({"start_s": None}, "expected both 'start_s' and 'end_s'"),
        ({"start_s": "soon"}, "expected seconds in 'start_s'"),
        ({"duration_s": 60}, "expected a span inside the video"),
        ({"video": None, "subtitles": None}, "expected a video in 'video'"),
    ],
)
def test_wrong_rows_are_named(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRowError, match=problem):
        load_dataset([{**ROW, **change}])


def test_a_misspelt_column_is_named() -> None:
    row = {key: value for key, value in ROW.items() if key != "answer"} | {"anser": "Bo"}
    with pytest.raises(InvalidRowError, match="expected the column 'answer', got 'anser'"):
        load_dataset([row])


def test_one_message_names_all_kinds_of_faults() -> None:
    rows = [ROW, {**ROW, "answer": "x"}, {**ROW, "question": ""}, {**ROW, "answer": "y"}]
    with pytest.raises(AnswerOutOfRangeError) as caught:
        load_dataset(rows)
    assert "row 2" in str(caught.value)
    assert "1 more rows like it; 1 with another fault (expected a question text" in str(
        caught.value
    )
    dataset = load_dataset(rows, skip_invalid=True)
    assert len(dataset) == 1
    assert dataset.coverage.large_loss == "3 of 4 questions left out"


def test_a_table_in_every_kind_of_file(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    row = {**ROW, "subtitles": "film.srt"}
    (tmp_path / "film.srt").write_text(SRT, encoding="utf-8")
    frame = pd.DataFrame([row])
    (tmp_path / "q.json").write_text(json.dumps([row]), encoding="utf-8")
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    frame.to_csv(tmp_path / "q.csv", index=False)
    frame.to_csv(tmp_path / "q.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "q.parquet")
    expected = list(load_dataset([ROW]))
    for suffix in ("json", "jsonl", "csv", "tsv", "parquet"):
        dataset = load_dataset(tmp_path / f"q.{suffix}")
        assert list(dataset) == expected
        assert dataset.coverage.lines() == []
    from_frame = load_dataset(frame.assign(subtitles=SRT))
    assert list(from_frame) == expected
    table = from_frame.to_pandas()
    assert list(table["answer"]) == [1]


def test_a_hub_dataset_in_memory() -> None:
    datasets = pytest.importorskip("datasets")
    assert list(load_dataset(datasets.Dataset.from_list([ROW]))) == list(load_dataset([ROW]))


def test_an_empty_cell_of_a_frame_is_no_answer() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        [{**ROW, "answer": 1}, {**ROW, "answer": None, "start_s": None, "end_s": None}]
    )
    assert [task.gold.answer for task in load_dataset(frame)] == [1, None]


def test_splits(tmp_path: Path) -> None:
    rows = [{**ROW, "split": "train"}, {**ROW, "split": "val"}]
    assert len(load_dataset(rows, "val")) == 1
    with pytest.raises(DatasetNotFoundError, match="splits: train, val"):
        load_dataset(rows)
    assert load_dataset([ROW], "anything").split == "anything"
    with pytest.raises(DatasetNotFoundError, match="several splits: train, val, test"):
        load_dataset("mini")


def test_subtitles_as_text_list_and_file(tmp_path: Path) -> None:
    lines = [{"start": 2, "end": 4, "text": "first"}, {"start": 70, "end": 72, "text": "second"}]
    for given in (SRT, lines, "WEBVTT\n\n00:02.000 --> 00:04.000\nfirst\n", "plain words"):
        dataset = load_dataset([{**ROW, "subtitles": given}])
        assert dataset.coverage.n_with_subtitles == 1
    by_subtitles = {key: value for key, value in ROW.items() if key != "video"}
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "night.srt").write_text(SRT, encoding="utf-8")
    (tmp_path / "q.json").write_text(json.dumps([{**by_subtitles, "subtitles": "deep/night.srt"}]))
    assert list(load_dataset(tmp_path / "q.json").videos) == ["night"]


def test_a_bad_side_file_never_stops() -> None:
    dataset = load_dataset([{**ROW, "subtitles": "gone.srt"}, {**ROW, "video": "two"}])
    assert dataset.coverage.lines() == [
        "subtitles: 1 of 2 videos; 1 could not be read: gone.srt (no such file)"
    ]


def test_ids_that_are_unique_within_a_video_only() -> None:
    rows = [{**ROW, "qid": 1}, {**ROW, "qid": 1, "video": "two"}]
    assert [task.qid for task in load_dataset(rows)] == ["film_1", "two_1"]


def test_the_environment_plays_it(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text(json.dumps([ROW]), encoding="utf-8")
    env = LongTVQAEnv(dataset=str(path), split="all", reward="paper,grounding=1")
    text, _ = env.reset(seed=0)
    assert "film@0" in text
    assert env.step("<answer>a1</answer>")[4]["reward_terms"]["answer"] == 1


def test_a_function_reads(tmp_path: Path) -> None:
    code = f"def read(folder):\n    return [{ROW!r}]\n\ndef bad(folder):\n    return 1 / 0\n"
    (tmp_path / "own_reader_module.py").write_text(code, encoding="utf-8")
    file = tmp_path / "own_reader_module.py"
    assert len(load_dataset(f"{file}:read@{tmp_path}")) == 1
    with pytest.raises(SpecError, match="failed: ZeroDivisionError"):
        load_dataset(f"{file}:bad@{tmp_path}")


@pytest.mark.parametrize("text", ["", "a,a\n1,2\n", "question\n", "\x00", '"'])
def test_files_that_are_no_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "q.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((MalformedFileError, InvalidRowError)):
        load_dataset(path)
