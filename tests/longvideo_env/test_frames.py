import dataclasses
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.errors import DatasetNotFoundError, SpecError
from longvideo_env.media.frames import Frame, FrameSample, list_frames, sample_frames, spread
from longvideo_env.schema import Clip, Video


def video_of(clip_id: str, root: Path | None) -> Video:
    return Video(clip_id.rsplit("_seg", 1)[0], (Clip(clip_id),), root)


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("clip_id", "folder"),
    [
        ("s05e02_seg02_clip_00", "s05e02_seg02_clip_00"),
        ("s05e02_seg02_clip_00", "bbt_frames/s05e02_seg02_clip_00"),
        ("castle_s01e01_seg02_clip_14", "castle_frames/castle_s01e01_seg02_clip_14"),
        ("friends_s09e23-24_seg02_clip_12", "friends_frames/friends_s09e23-24_seg02_clip_12"),
        ("harbour_seg01_clip_01", "harbour_seg01_clip_01"),
    ],
)
def test_layouts(tmp_path: Path, clip_id: str, folder: str) -> None:
    fill(tmp_path / folder, "00001.jpg", "00004.jpg")
    assert list_frames(video_of(clip_id, tmp_path), clip_id) == (
        Frame(tmp_path / folder / "00001.jpg", 1, 0.0),
        Frame(tmp_path / folder / "00004.jpg", 4, 1.0),
    )


def test_any_padding_step_and_suffix_in_order_of_number(tmp_path: Path) -> None:
    clip_id = "s05e02_seg02_clip_00"
    names = ["10.jpg", "7.JPEG", "0004.png", "1.png", "00001.jpg", "0.jpg", "x.jpg", "2.txt", "3"]
    fill(tmp_path / clip_id, *names)
    (tmp_path / clip_id / "00013.jpg").mkdir()
    frames = list_frames(video_of(clip_id, tmp_path), clip_id)
    assert [frame.path.name for frame in frames] == ["00001.jpg", "0004.png", "7.JPEG", "10.jpg"]
    assert [frame.time_s for frame in frames] == [0, 1, 2, 3]


def test_no_folder_no_frames(tmp_path: Path) -> None:
    clip_id = "s05e02_seg02_clip_00"
    assert list_frames(video_of(clip_id, None), clip_id) == ()
    assert list_frames(video_of(clip_id, tmp_path), clip_id) == ()
    (tmp_path / clip_id).touch()
    assert list_frames(video_of(clip_id, tmp_path), clip_id) == ()


def test_a_folder_is_listed_only_when_asked(tmp_path: Path) -> None:
    clip_id = "s05e02_seg02_clip_00"
    video = video_of(clip_id, tmp_path)
    fill(tmp_path / clip_id, "00001.jpg")
    assert len(list_frames(video, clip_id)) == 1


def test_no_path_is_made_of_a_foreign_id(tmp_path: Path) -> None:
    fill(tmp_path / "secret", "00001.jpg")
    (tmp_path / "root").mkdir()
    with pytest.raises(SpecError, match="expected one of the 1 clips of 's05e02'"):
        list_frames(video_of("s05e02_seg02_clip_00", tmp_path / "root"), "../secret")
    assert list_frames(video_of("../secret", tmp_path / "root"), "../secret") == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every folder")
def test_an_unreadable_folder_is_a_named_error(tmp_path: Path) -> None:
    clip_id = "s05e02_seg02_clip_00"
    fill(tmp_path / clip_id)
    (tmp_path / clip_id).chmod(0)
    with pytest.raises(DatasetNotFoundError, match="cannot be read"):
        list_frames(video_of(clip_id, tmp_path), clip_id)


def test_frames_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Frame(Path("x"), 1, 0.0).time_s = 3.0  # type: ignore[misc]


@given(st.integers(0, 400), st.integers(-2, 450))
def test_spread_is_even_from_first_to_last(length: int, n: int) -> None:
    items = list(range(length))
    picked = spread(items, n)
    assert len(picked) == max(0, min(n, length))
    assert list(picked) == sorted(set(picked))
    if len(picked) > 1:
        assert (picked[0], picked[-1]) == (0, length - 1)
        steps = [b - a for a, b in pairwise(picked)]
        assert max(steps) - min(steps) <= 1


def test_spread_covers_the_whole_clip() -> None:
    assert spread(range(270), 4) == (0, 90, 179, 269)
    assert spread(range(9), 1) == (4,)


JPEG = b"\xff\xd8\xff\xe0" + b"x" * 50 + b"\xff\xd9"
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 50 + b"IEND\xaeB`\x82"


def write(folder: Path, **files: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name.lstrip("_").replace("__", ".")).write_bytes(data)


def test_bad_files_are_named_and_the_nearest_good_one_serves(tmp_path: Path) -> None:
    clip_id = "s05e02_seg02_clip_00"
    folder = tmp_path / clip_id
    write(
        folder,
        _001__jpg=b"",
        _004__jpg=JPEG,
        _007__jpg=JPEG[:-2],
        _010__png=PNG,
        _013__jpg=b"<html>not found</html>",
        _016__jpg=JPEG + b"\0" * 100,
    )
    found = sample_frames(video_of(clip_id, tmp_path), clip_id, 4)
    assert [frame.frame_index for frame in found.frames] == [4, 10, 16]
    assert [(path.name, problem.split(" (")[0]) for path, problem in found.skipped] == [
        ("001.jpg", "empty"),
        ("007.jpg", "truncated"),
        ("013.jpg", "not a JPEG or PNG image"),
    ]
    assert sample_frames(video_of(clip_id, None), clip_id, 4) == FrameSample(())


def test_frames_are_spread_over_what_exists_and_a_gap_costs_nothing(tmp_path: Path) -> None:
    clip_id = "s05e02_seg02_clip_00"
    numbers = [*range(1, 31), *range(200, 230)]
    write(tmp_path / clip_id, **{f"_{n:03d}__jpg": JPEG for n in numbers})
    found = sample_frames(video_of(clip_id, tmp_path), clip_id, 3)
    assert [frame.frame_index for frame in found.frames] == [1, 200, 229]
    assert found.skipped == ()


def test_the_video_says_how_many_frames_make_a_second(tmp_path: Path) -> None:
    clip_id = "s05e02_seg02_clip_00"
    write(tmp_path / clip_id, _1__jpg=JPEG, _3__jpg=JPEG)
    video = dataclasses.replace(video_of(clip_id, tmp_path), frames_fps=0.5)
    assert [frame.time_s for frame in list_frames(video, clip_id)] == [0, 4]
