"""The frames of `mini` match its captions."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.datasets.mini import vocabulary as mini_words
from longvideo_env.datasets.mini.drawing import HEIGHT, RGB, WIDTH, body_box, thing_box
from longvideo_env.datasets.mini.generator import write_mini
from longvideo_env.errors import MissingExtraError
from longvideo_env.media.frames import list_frames

HOLDS = re.compile(r"(\w+) holds a (\w+) (\w+) \.")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("mini") / "world"
    return load_dataset(str(write_mini(folder, videos=4, difficulty=1.0, frame_step=60)), "train")


def pixels(path: Path) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def has_colour(picture: np.ndarray, box: tuple[int, int, int, int], colour: str) -> int:
    left, top, right, bottom = box
    part = picture[top : bottom + 1, left : right + 1]
    return int((part == RGB[colour]).all(axis=-1).sum())


@pytest.mark.slow
def test_each_thing_has_the_colour_of_its_caption_where_its_holder_stands(
    dataset: Dataset,
) -> None:
    seen = 0
    for video in dataset.videos.values():
        for clip in video.clips:
            holders = [(c, m) for c in clip.captions if (m := HOLDS.fullmatch(c.text))]
            frames = list_frames(video, clip.clip_id)
            assert [frame.frame_index for frame in frames] == [1, 61, 121]
            for frame in frames:
                picture = pixels(frame.path)
                assert picture.shape == (HEIGHT, WIDTH, 3)
                for position, (caption, match) in enumerate(holders):
                    assert caption.start_s is not None
                    assert caption.end_s is not None
                    here = caption.start_s <= frame.time_s < caption.end_s
                    box = thing_box(position, len(holders))
                    shares = {c: has_colour(picture, box, c) for c in mini_words.COLOURS}
                    assert (shares.pop(match[2]) > 40) == here
                    assert not any(shares.values()), "no other colour of things in the box"
                    seen += here
    assert seen > 150


def test_things_differ_in_shape(dataset: Dataset) -> None:
    shapes: dict[str, set[bytes]] = {}
    for video in dataset.videos.values():
        for clip in video.clips:
            holders = [m for c in clip.captions if (m := HOLDS.fullmatch(c.text))]
            picture = pixels(list_frames(video, clip.clip_id)[1].path)
            for position, match in enumerate(holders):
                left, top, right, bottom = thing_box(position, len(holders))
                part = picture[top : bottom + 1, left : right + 1]
                shape = (part == RGB[match[2]]).all(axis=-1)
                shapes.setdefault(match[3], set()).add(shape.tobytes())
    assert set(shapes) == set(mini_words.THINGS)
    assert all(len(found) == 1 for found in shapes.values())
    assert len(set.union(*shapes.values())) == len(shapes)


def test_boxes_lie_round_the_thing_that_was_asked_for(dataset: Dataset) -> None:
    boxed = 0
    for task in dataset:
        if task.gold.boxes is None:
            assert str(task.question.show).startswith("mini:say")
            continue
        assert task.gold.clip_id is not None
        video = dataset.video(task)
        frames = {f.frame_index: f for f in list_frames(video, task.gold.clip_id)}
        assert "61" in task.gold.boxes
        for number, (person, thing) in task.gold.boxes.items():
            box = (
                thing["left"],
                thing["top"],
                thing["left"] + thing["width"],
                thing["top"] + thing["height"],
            )
            caption = next(
                c.text
                for c in video[task.gold.clip_id].captions
                if re.fullmatch(rf"{person['label']} holds a \w+ {thing['label']} \.", c.text)
            )
            assert has_colour(pixels(frames[int(number)].path), box, caption.split()[3]) > 40
            boxed += 1
    assert boxed > 10


def test_everything_fits_into_the_picture() -> None:
    for n in (2, 3):
        boxes = [box(i, n) for i in range(n) for box in (body_box, thing_box)]
        edges = [edge for left, _, right, _ in boxes for edge in (left, right)]
        assert edges == sorted(edges), "figures and things side by side, none over another"
        assert edges[0] >= 0
        assert edges[-1] < WIDTH


@pytest.mark.slow
def test_frames_are_small_and_the_same_again(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.root is not None
    again = write_mini(tmp_path / "world", videos=4, difficulty=1.0, frame_step=60)
    drawn = sorted(dataset.root.rglob("*.png"))
    assert [path.read_bytes() for path in drawn] == [
        path.read_bytes() for path in sorted(again.rglob("*.png"))
    ]
    assert max(path.stat().st_size for path in drawn) < 3000


def test_frames_serve_the_world_in_memory_too(dataset: Dataset) -> None:
    assert dataset.root is not None
    made = load_dataset("mini:videos=4,difficulty=1", "train", frames_root=dataset.root / "frames")
    video = made.video(made[0])
    assert len(list_frames(video, video.clip_ids[0])) == 3


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'longvideo-env\[video\]'"):
        write_mini(tmp_path / "world", videos=1, frame_step=60)
    assert list(tmp_path.iterdir()) == []
