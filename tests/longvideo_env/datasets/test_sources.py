from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longvideo_env.datasets.tvqa.layout import find_sources
from longvideo_env.errors import DatasetNotFoundError

Write = Callable[..., Path]

SPLITS = {"tvqa_train__json": "", "tvqa_val__json": ""}


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("LongTVQA_plus_train.json", "train"),
        ("LongTVQA_val.jsonl", "val"),
        ("tvqa_plus_train.json", "train"),
        ("tvqa_plus_val_preprocessed.json", "val"),
        ("tvqa_train.jsonl", "train"),
        ("tvqa_test_public.jsonl", "test"),
        ("tvqa_test_public.jsonl", "test_public"),
        ("tvqa_test.jsonl", "test_public"),
    ],
)
def test_layouts_by_folder_and_by_file(tmp_path: Path, file: str, split: str) -> None:
    path = tmp_path / file
    path.touch()
    assert find_sources(str(tmp_path), split, None).questions == path
    assert find_sources(str(path), split, None).questions == path
    assert find_sources(str(path), split, None).name == path.stem


def test_companions_are_found_beside_the_questions(folder: Write) -> None:
    root = folder(
        LongTVQA_train__jsonl="",
        LongTVQA_val__jsonl="",
        LongTVQA_plus_train__json="",
        LongTVQA_subtitles_clip_level__jsonl="",
        LongTVQA_subtitles_episode_level__jsonl="",
        LongTVQA_plus_subtitle_clip_level__json="",
        captions__json="",
    )
    (root / "frames").mkdir()
    plus = find_sources(str(root / "LongTVQA_plus_train.json"), "train", None)
    assert plus.clip_subtitles == root / "LongTVQA_plus_subtitle_clip_level.json"
    assert plus.siblings == ()
    whole = find_sources(str(root / "LongTVQA_train.jsonl"), "train", None)
    assert whole.clip_subtitles == root / "LongTVQA_subtitles_clip_level.jsonl"
    assert whole.episode_subtitles == root / "LongTVQA_subtitles_episode_level.jsonl"
    assert whole.siblings == (root / "LongTVQA_val.jsonl",)
    assert whole.captions == root / "captions.json"
    assert whole.frames_root == root / "frames"


def test_subtitles_of_another_prefix_will_do(folder: Write) -> None:
    root = folder(tvqa_plus_val__json="", LongTVQA_plus_subtitle_clip_level__json="")
    assert find_sources(str(root), "val", None).clip_subtitles is not None


def test_an_unknown_file_name_may_be_any_split(folder: Write) -> None:
    root = folder(mine__json="")
    assert find_sources(str(root / "mine.json"), "dev", None).split == "dev"


def test_the_plain_file_goes_before_its_preprocessed_copy(folder: Write) -> None:
    root = folder(tvqa_plus_val__json="", tvqa_plus_val_preprocessed__json="")
    assert find_sources(str(root), "val", None).questions.name == "tvqa_plus_val.json"


@pytest.mark.parametrize(
    ("files", "path", "split", "message"),
    [
        ({}, "nowhere", "train", "no dataset .*nowhere.* does not exist"),
        ({}, "", "train", "the folder holds no questions: expected a file such as"),
        ({"tvqa_plus__json": ""}, "", "plus", "the folder holds no questions"),
        (SPLITS, "", "vall", "no split 'vall'; splits: train, val.*split='val'"),
        (SPLITS, "", "../val", r"no split '\.\./val'"),
        (SPLITS, "tvqa_val.json", "train", "the file's name says 'val'"),
        (
            {**SPLITS, "LongTVQA_val__jsonl": ""},
            "",
            "val",
            "several files: LongTVQA_val.jsonl, tvqa_val",
        ),
    ],
)
def test_what_is_not_there_is_told(
    folder: Write, files: dict[str, Any], path: str, split: str, message: str
) -> None:
    with pytest.raises(DatasetNotFoundError, match=message) as error:
        find_sources(str(folder(**files) / path), split, None)
    assert error.value.mend


@pytest.mark.parametrize("spec", ["hf:someone/dataset", "", " "])
def test_specs_without_a_folder(spec: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"Fix: .*folder"):
        find_sources(spec, "train", None)


def test_frames_root_must_be_a_folder(folder: Write, tmp_path: Path) -> None:
    root = folder(tvqa_val__json="")
    assert find_sources(str(root), "val", None).frames_root is None
    assert find_sources(str(root), "val", str(tmp_path)).frames_root == tmp_path
    with pytest.raises(DatasetNotFoundError, match="frames_root is not a folder"):
        find_sources(str(root), "val", tmp_path / "nowhere")
