"""Impossible gold is refused in the layouts of TVQA, with an index and without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longvideo_env import load_dataset
from longvideo_env.datasets import loading
from longvideo_env.errors import ForeignClipError, InvalidRowError

CLIP = "s05e02_seg02_clip_00"
CLIPS = {CLIP: {"start_s": 60, "end_s": 90}, "s05e02_seg02_clip_02": {"start_s": 90, "end_s": 120}}


@pytest.fixture(params=["plain", "index"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGVIDEO_ENV_CACHE", str(tmp_path / "cache"))
    if request.param == "index":
        monkeypatch.setattr(loading, "INDEX_FROM_BYTES", 0)


def load(folder: Callable[..., Path], row: dict[str, Any], **change: Any) -> Any:
    good = {**row, "ts": [3, 9]}
    rows = [good, {**good, "qid": 2, **change}, {**good, "qid": 3, "answer": "a9"}]
    path = folder(questions_val__json=rows, clips__json={"clips": CLIPS})
    assert len(load_dataset(path, "val", skip_invalid=True)) in (1, 2)
    return load_dataset(path, "val")


def test_a_clip_that_the_folder_does_not_have(
    folder: Callable[..., Path], row: dict[str, Any]
) -> None:
    with pytest.raises((ForeignClipError, InvalidRowError), match="a clip of the folder"):
        load(folder, row, occur_clip="s05e02_seg02_clip_77")


def test_times_of_the_whole_video(folder: Callable[..., Path], row: dict[str, Any]) -> None:
    with pytest.raises(InvalidRowError, match=r"which is 30 s long, got \[75.0, 79.0\]"):
        load(folder, row, ts=[75, 79])


@pytest.mark.parametrize("ts", [[-3, 9999], [14, 10]])
def test_spans_that_are_none(
    ts: list[float], folder: Callable[..., Path], row: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRowError) as caught:
        load(folder, row, ts=ts)
    assert "row 2" in str(caught.value)
    assert "1 with another fault (expected an answer from 0 to 2" in str(caught.value)


def test_a_silent_clip_between_others_is_fine(
    folder: Callable[..., Path], row: dict[str, Any]
) -> None:
    rows = [{**row, "occur_clip": "s05e02_seg02_clip_01"}]
    path = folder(questions_val__json=rows, clips__json={"clips": CLIPS})
    assert len(load_dataset(path, "val")) == 1
