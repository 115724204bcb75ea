"""The real packs of questions. The tests are skipped if they are missing."""

from pathlib import Path

import pytest

from longvideo_env.datasets import load_dataset
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.texts import read_clip_subtitles, read_episode_subtitles


@pytest.mark.parametrize(("split", "questions"), [("train", 1057), ("val", 595)])
def test_longtvqa_plus(shared_data: Path, split: str, questions: int) -> None:
    dataset = load_dataset(str(shared_data / "tvqa_plus_dev"), split)
    assert len(dataset) == questions
    assert len(dataset.videos) == 138
    assert sum(len(video.clips) for video in dataset.videos.values()) == 2629
    for task in dataset:
        gold = task.gold
        assert gold.answer is not None
        assert gold.span is not None
        assert gold.boxes is not None
        assert gold.clip_id in dataset.video(task)
    assert any(not clip.subtitles for video in dataset.videos.values() for clip in video.clips)
    assert dataset.task("122636" if split == "train" else "133290").qid == dataset[0].qid


def test_clip_and_episode_level_say_the_same(shared_data: Path) -> None:
    root = shared_data / "tvqa_plus_dev"
    rejects = Rejects(skip_invalid=False)
    by_clip = read_clip_subtitles(root / "LongTVQA_plus_subtitle_clip_level.json", rejects)
    by_video = read_episode_subtitles(root / "LongTVQA_plus_subtitle_episode_level.json", rejects)
    assert by_clip == by_video


def test_raw_tvqa(shared_data: Path) -> None:
    dataset = load_dataset(str(shared_data / "tvqa_raw"), "test")
    assert len(dataset) == 2000
    assert all(task.gold.answer is None for task in dataset)
    assert sum(task.gold.span is None for task in dataset) == 1
    assert len({task.question.show for task in dataset}) == 6
    assert len(dataset.videos) == 488
    assert "friends_s09e23-24" in dataset.videos
