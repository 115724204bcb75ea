import copy
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import longvideo_env.datasets as package
from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.errors import (
    DatasetNotFoundError,
    InvalidRowError,
    MalformedFileError,
    MissingOptionError,
    SpecError,
)
from longvideo_env.schema import Question, TimedText

Write = Callable[..., Path]
Row = dict[str, Any]


def test_exported_names() -> None:
    assert package.__all__ == ["Dataset", "load_dataset"]


def write_plus(folder: Write, *rows: Row, **more: Any) -> str:
    return str(folder(LongTVQA_plus_val__json=list(rows), **more))


def test_videos_unite_clips_of_subtitles_captions_and_questions(folder: Write, row: Row) -> None:
    path = write_plus(
        folder,
        row,
        LongTVQA_plus_subtitle_clip_level__json={
            "s05e02_seg02_clip_10": "",
            "s05e02_seg02_clip_9": "Hi . <eos> Bye .",
            "s05e03_seg01_clip_00": "Other .",
        },
        captions__json={"s05e02_seg01_clip_05": [{"start_s": 1, "end_s": 2, "text": "A cup."}]},
    )
    dataset = load_dataset(path, "val")
    assert list(dataset.videos) == ["s05e02", "s05e03"]
    video = dataset.video(dataset[0])
    assert video.clip_ids == (
        "s05e02_seg01_clip_05",
        "s05e02_seg02_clip_00",
        "s05e02_seg02_clip_9",
        "s05e02_seg02_clip_10",
    )
    assert video["s05e02_seg01_clip_05"].captions == (TimedText("A cup.", 1.0, 2.0),)
    assert video["s05e02_seg02_clip_9"].subtitles == (TimedText("Hi ."), TimedText("Bye ."))
    assert video["s05e02_seg02_clip_00"].subtitles == ()
    assert video is dataset.videos["s05e02"] is dataset.video(dataset[0].question)


def test_episode_level_subtitles_serve_where_there_are_none_by_clip(
    folder: Write, row: Row
) -> None:
    text = "<seg02_clip_00>Hi .</seg02_clip_00><seg02_clip_01></seg02_clip_01>"
    path = write_plus(folder, row, LongTVQA_plus_subtitle_episode_level__json={"s05e02": text})
    video = load_dataset(path, "val").videos["s05e02"]
    assert [len(clip.subtitles) for clip in video.clips] == [1, 0]


def test_without_subtitles_the_other_splits_widen_the_haystack(folder: Write, row: Row) -> None:
    other = {"qid": 9, "vid_name": "s05e02_seg02_clip_03"}
    root = folder(tvqa_val__jsonl=[row], tvqa_train__jsonl=[other, {"vid_name": "../x"}, 3])
    dataset = load_dataset(str(root), "val")
    assert dataset.videos["s05e02"].clip_ids == ("s05e02_seg02_clip_00", "s05e02_seg02_clip_03")
    assert len(dataset) == 1


def test_a_video_that_nothing_names_a_clip_of(folder: Write, row: Row) -> None:
    lost = {**row, "qid": 2, "episode_name": "s09e09", "occur_clip": None}
    path = write_plus(folder, row, lost)
    with pytest.raises(InvalidRowError, match=r"row 2: question 2: .*'s09e09'"):
        load_dataset(path, "val")
    assert len(load_dataset(path, "val", skip_invalid=True).skipped) == 1


def test_skip_invalid_keeps_the_good_rows_and_lists_the_bad(folder: Write, row: Row) -> None:
    bad = [{**row, "qid": 2, "a1": None}, 3, {**row, "qid": 1}, {**row, "qid": 5, "answer": 9}]
    path = write_plus(folder, row, *bad, {**row, "qid": "six"})
    with pytest.raises(MissingOptionError, match="row 2: question 2"):
        load_dataset(path, "val")
    dataset = load_dataset(path, "val", skip_invalid=True)
    assert [task.qid for task in dataset] == [1, "six"]
    assert [error.row for error in dataset.skipped] == [2, 3, 4, 5]
    assert all("LongTVQA_plus_val.json, row" in str(error) for error in dataset.skipped)


def test_skip_invalid_does_not_excuse_a_truncated_file(folder: Write, row: Row) -> None:
    root = folder(LongTVQA_plus_val__json=json.dumps([row])[:-9])
    with pytest.raises(MalformedFileError, match="truncated"):
        load_dataset(str(root), "val", skip_invalid=True)


def test_a_truncated_companion_is_told_by_its_name(folder: Write, row: Row) -> None:
    path = write_plus(folder, row, captions__json='{"s05e02_seg02_clip_00": [')
    with pytest.raises(MalformedFileError, match=r"captions\.json: the file is truncated"):
        load_dataset(path, "val", skip_invalid=True)


def test_a_second_call_gives_the_same_object_until_a_file_changes(folder: Write, row: Row) -> None:
    path = write_plus(folder, row)
    first = load_dataset(path, "val")
    assert load_dataset(path, "val") is first
    assert load_dataset(os.path.relpath(path), "val") is first
    assert load_dataset(path, "val", skip_invalid=True) is not first
    write_plus(folder, row, {**row, "qid": 2})
    assert len(load_dataset(path, "val")) == 2


def test_tasks_are_found_by_number_and_by_text(folder: Write, row: Row) -> None:
    path = write_plus(folder, {**row, "qid": 122636}, {**row, "qid": "x7"})
    dataset = load_dataset(path, "val")
    assert dataset.task(122636) is dataset.task("122636") is dataset[0]
    assert dataset.task("x7") is dataset[-1]
    with pytest.raises(SpecError, match=r"no question 122637 in .* Close .*: 122636\."):
        dataset.task(122637)


def test_a_question_of_another_dataset(folder: Write, row: Row) -> None:
    dataset = load_dataset(write_plus(folder, row), "val")
    with pytest.raises(SpecError, match=r"no video 's05e01' in .*Close to it: s05e02"):
        dataset.video(Question(1, "What?", ("x", "y"), "s05e01"))
    with pytest.raises(KeyError):
        dataset.videos["../x"]


@pytest.mark.parametrize("clone", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
@pytest.mark.parametrize("used", [False, True])
def test_pickles(folder: Write, row: Row, clone: Callable[[Dataset], Dataset], used: bool) -> None:
    path = write_plus(folder, row, {**row, "qid": 2, "q": ""}, captions__json={})
    dataset = load_dataset(path, "val", skip_invalid=True)
    if used:
        dataset.video(dataset.task(1)).window("s05e02_seg02_clip_00", 1)
    twin = clone(dataset)
    assert twin.tasks == dataset.tasks
    assert twin.video(twin[0]).clips == dataset.video(dataset[0]).clips
    assert str(twin.skipped[0]) == str(dataset.skipped[0])
    assert (twin.name, twin.split, twin.root) == (dataset.name, "val", Path(path))


def test_a_name_too_long_for_the_system_is_a_named_error() -> None:
    with pytest.raises(DatasetNotFoundError):
        load_dataset("x" * 5000, "val")
    with pytest.raises(DatasetNotFoundError):
        load_dataset("x\0y", "val")


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_embedded_dataset_loads(split: str) -> None:
    dataset = load_dataset("embedded", split)
    assert (dataset.name, dataset.split) == ("embedded", split)
    assert len(dataset) > 0
    for task in dataset:
        assert task.gold.answer is not None
        assert task.gold.clip_id in dataset.video(task)
