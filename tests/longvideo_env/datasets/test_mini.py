"""The dataset `mini`: loading, specs and splits, in memory and from disk."""

import json
import pickle
from pathlib import Path

import pytest

from longvideo_env import LongTVQAEnv, load_dataset
from longvideo_env.commands.data.mini import main
from longvideo_env.datasets.mini.generator import (
    SPLIT_VIDEOS,
    MiniOptions,
    load_mini,
    read_spec,
    split_sizes,
    write_mini,
)
from longvideo_env.errors import DatasetNotFoundError, SpecError

SMALL = {"videos": 6, "seed": 3, "difficulty": 0.7}


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("split", SPLIT_VIDEOS)
def test_default_splits_have_four_questions_a_video(split: str) -> None:
    dataset = load_mini(split)
    assert len(dataset.videos) == SPLIT_VIDEOS[split]
    assert len(dataset) == 4 * len(dataset.videos)


def test_a_spec_string_is_the_same_as_arguments() -> None:
    dataset = load_dataset("mini:videos=6, seed=3, difficulty=0.7", "val")
    assert dataset is load_mini("val", **SMALL)
    assert load_dataset("mini", "test") is load_mini("test")
    assert (dataset.name, dataset.split, dataset.skipped) == ("mini", "val", ())
    assert dataset is not load_mini("val", videos=6, seed=4, difficulty=0.7)


def test_fewer_videos_are_the_first_of_more() -> None:
    few, more = load_mini("train", videos=3), load_mini("train", videos=5)
    assert few.tasks == more.tasks[: len(few)]
    assert list(few.videos) == list(more.videos)[:3]


def test_splits_and_seeds_share_no_video() -> None:
    datasets = [load_mini(split, videos=30, seed=s) for split in SPLIT_VIDEOS for s in (0, 1)]
    ids = [video_id for dataset in datasets for video_id in dataset.videos]
    texts = {
        tuple(line.text for clip in video.clips for line in clip.subtitles)
        for dataset in datasets
        for video in dataset.videos.values()
    }
    assert len(set(ids)) == len(ids) == len(texts) == 6 * 30
    qids = [str(task.qid) for dataset in datasets for task in dataset]
    assert len(set(qids)) == len(qids)


def test_it_can_be_pickled_and_played() -> None:
    dataset = load_mini("test", **SMALL)
    assert pickle.loads(pickle.dumps(dataset)).tasks == dataset.tasks
    env = LongTVQAEnv(dataset="mini:videos=6", split="test")
    observation, _ = env.reset(seed=0)
    assert "mini:" not in observation, "the kind of a question is for metrics alone"
    _, reward, terminated, _, _ = env.step("<reasoning>x</reasoning><answer>a0</answer>")
    assert terminated
    assert reward > 0, "its reasoning counts, right or wrong"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mini:video=3", r"unknown option 'video'\. Did you mean 'videos'\?"),
        ("mini:", "expected key=value"),
        ("mini:seed=3,seed=4", "'seed' occurs twice"),
        ("mini:videos=many", "videos is a whole number, got 'many'"),
        ("mini:difficulty=", "difficulty is a finite number, got ''"),
        ("mini:difficulty=nan", "difficulty is a finite number"),
        ("mini:difficulty=1.5", "difficulty must be 0 to 1, got 1.5"),
        ("mini:videos=0", "videos must be 1 to 100,000, got 0"),
        ("mini:seed=-1", "seed must be 0 to"),
        ("mini:compare=1.5", "compare must be 0 to 1"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_dataset(spec, "train")


def test_the_share_of_questions_that_compare_can_be_set() -> None:
    def shows(spec: str) -> list[str]:
        return [str(task.question.show) for task in load_dataset(spec, "val")]

    assert shows("mini:videos=10") == shows("mini:videos=10,compare=0.1")
    assert set(shows("mini:videos=10,compare=1")) == {"mini:compare"}
    assert "mini:compare" not in shows("mini:videos=30,compare=0")
    assert 40 < shows("mini:videos=40,compare=0.5").count("mini:compare") < 120


def test_other_things_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="no split 'dev' of mini; splits: train, val"):
        load_dataset("mini", "dev")
    with pytest.raises(DatasetNotFoundError, match="frames_root is not a folder"):
        load_dataset("mini", "train", frames_root=tmp_path / "none")
    assert read_spec("mini") == MiniOptions()


def test_the_reader_reads_back_the_same(tmp_path: Path) -> None:
    folder = write_mini(tmp_path / "world", **SMALL)
    for split, videos in split_sizes(SMALL["videos"]).items():
        made = load_mini(split, **{**SMALL, "videos": videos})
        read = load_dataset(str(folder), split)
        assert read.tasks == made.tasks
        for video_id, video in made.videos.items():
            assert read.videos[video_id].clips == video.clips
    episodes = folder / "LongTVQA_plus_subtitle_episode_level.json"
    (folder / "LongTVQA_plus_subtitle_clip_level.json").unlink()
    assert len(json.loads(episodes.read_text())) == sum(split_sizes(6).values())
    again = load_dataset(str(folder), "train")
    assert all(again.videos[key].clips == read.videos[key].clips for key in read.videos)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_mini(tmp_path / name, **SMALL) for name in ("first", "second"))
    other = write_mini(tmp_path / "other", **{**SMALL, "seed": 4})
    assert files_of(first) == files_of(second) != files_of(other)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    write_mini(tmp_path / "world", **SMALL)
    before = files_of(tmp_path)
    with pytest.raises(SpecError, match="not an empty folder"):
        write_mini(tmp_path / "world", videos=1)
    assert files_of(tmp_path) == before


def test_nothing_is_left_of_a_world_that_broke_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longvideo_env.datasets.mini.generator.draw_scene", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_mini(tmp_path / "world", **SMALL, frame_step=60)
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    main(["--out", str(out), "--videos", "6", "--seed", "3", "--difficulty", "0.7"])
    assert capsys.readouterr().out.strip() == str(out)
    assert files_of(out) == files_of(write_mini(tmp_path / "same", **SMALL))
    for wrong in (["--videos", "0"], ["--frames", "--frame-step", "0"]):
        assert main(["--out", str(tmp_path / "no"), *wrong]) == 2
        assert "must be" in capsys.readouterr().err
