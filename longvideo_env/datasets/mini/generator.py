"""`mini`: a world of small videos generated from a seed. A tiny model can learn the game on it.

    load_dataset("mini", "train")
    load_dataset("mini:videos=200,seed=3,difficulty=0.5", "test")
    longvideo-env mini --out runs/mini --videos 40 --seed 3 --frames

A question is answered by what one clip says, by what it shows, or by two clips together. The clip
at which BM25 opens the video may be the wrong one. So a policy has to learn when to ground, when to
look and when to answer. `Question.show` names the kind, such as `mini:look_elsewhere`; no prompt
shows it. The vocabulary is small (see `mini_words`). The question and its options alone do not give
the answer away.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from longvideo_env.datasets.dataset import Dataset, LazyVideos
from longvideo_env.datasets.jsonfile import Rows
from longvideo_env.datasets.mini import vocabulary as words
from longvideo_env.datasets.mini.asking import make_rows
from longvideo_env.datasets.mini.drawing import draw_scene
from longvideo_env.datasets.mini.world import (
    CLIP_S,
    COMPARE_SHARE,
    Dice,
    Difficulty,
    Scene,
    World,
    make_world,
)
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.material import ClipTimes
from longvideo_env.datasets.tvqa.rows import read_tasks
from longvideo_env.errors import DatasetNotFoundError, InputError, SpecError
from longvideo_env.ids import group_by_video
from longvideo_env.seeding import derive_seed
from longvideo_env.specs import parse_spec

MINI = "mini"
VERSION = 1
"""Raised whenever the same seed gives another world."""

SPLIT_VIDEOS = {"train": 400, "val": 125, "test": 125}
"""The splits and their default numbers of videos. Each video has four questions."""

DIFFICULTY = 0.4
SEGMENT_CLIPS = 6
MAX_VIDEOS = 100_000
MAX_SEED = 10**9
_PREFIX = "LongTVQA_plus"


@dataclass(frozen=True)
class MiniOptions:
    """Options of the mini world.

    Attributes:
        videos: Videos of the split, or None for the default number. A smaller number takes the
            first videos.
        seed: Seed of all random draws. Another seed gives new videos in every split.
        difficulty: 0 to 1. Higher values mean longer videos, closer wrong options, more chatter,
            and a wrong first clip more often.
        compare: 0 to 1: the share of questions that compare two clips.

    Raises:
        SpecError: A value is out of range.
    """

    videos: int | None = None
    seed: int = 0
    difficulty: float = DIFFICULTY
    compare: float = COMPARE_SHARE

    def __post_init__(self) -> None:
        if self.videos is not None and not 1 <= self.videos <= MAX_VIDEOS:
            raise SpecError(f"mini: videos must be 1 to {MAX_VIDEOS:,}, got {self.videos}.")
        if not 0 <= self.seed <= MAX_SEED:
            raise SpecError(f"mini: seed must be 0 to {MAX_SEED:,}, got {self.seed}.")
        if not 0 <= self.difficulty <= 1:
            raise SpecError(f"mini: difficulty must be 0 to 1, got {self.difficulty}.")
        if not 0 <= self.compare <= 1:
            raise SpecError(f"mini: compare must be 0 to 1, got {self.compare}.")


@dataclass(frozen=True, slots=True)
class _Files:
    """A split in the layout of LongTVQA+, with its scenes."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    subtitles: dict[str, str] = field(default_factory=dict)
    captions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    scenes: dict[str, Scene] = field(default_factory=dict)


def load_mini(
    split: str,
    *,
    seed: int = 0,
    videos: int | None = None,
    difficulty: float = DIFFICULTY,
    frames_root: str | Path | None = None,
) -> Dataset:
    """Make one split of the mini world. The same arguments return the same object.

    Args:
        split: train, val or test. They share no video.
        seed: See `MiniOptions`.
        videos: See `MiniOptions`.
        difficulty: See `MiniOptions`.
        frames_root: Folder of frames that `longvideo-env mini --frames` drew with the same seed and
            difficulty.

    Raises:
        DatasetNotFoundError: No such split, or no such folder of frames.
        SpecError: A value is out of range.
    """
    return _load(split, MiniOptions(videos, seed, difficulty), _check_frames(frames_root))


def load_mini_spec(spec: str, split: str, frames_root: str | Path | None = None) -> Dataset:
    """`load_mini` for a spec such as `mini:videos=200,seed=3,difficulty=0.5`.

    Raises:
        DatasetNotFoundError: No such split, or no such folder of frames.
        SpecError: A key or a value is invalid.
    """
    return _load(split, read_spec(spec), _check_frames(frames_root))


def read_spec(spec: str) -> MiniOptions:
    """Read `mini` or `mini:videos=200,seed=3,difficulty=0.5`.

    Raises:
        SpecError: A key or a value is invalid.
    """
    parsed = parse_spec(spec)
    if parsed.argument or spec.endswith(":"):
        raise SpecError(f"{spec!r}: expected key=value, such as mini:videos=200,seed=3.")
    options: MiniOptions = parsed.read(MiniOptions)
    return options


def write_mini(
    out: str | Path,
    *,
    videos: int = SPLIT_VIDEOS["train"],
    seed: int = 0,
    difficulty: float = DIFFICULTY,
    frame_step: int | None = None,
) -> Path:
    """Write all splits into a folder, in the layout of LongTVQA+, completely or not at all.

    Args:
        out: The folder. It must be empty or new.
        videos: Videos of the split train. val and test get a quarter of it each.
        seed: See `MiniOptions`.
        difficulty: See `MiniOptions`.
        frame_step: Draw every `frame_step`-th frame (needs Pillow). None draws no frames.

    Returns:
        The folder.

    Raises:
        MissingExtraError: Frames are wanted and Pillow is not installed.
        SpecError: A value is out of range, or the folder is not empty.
    """
    out = Path(out)
    MiniOptions(videos, seed, difficulty)
    if frame_step is not None and frame_step < 1:
        raise SpecError(f"mini: frame_step must be at least 1, got {frame_step}.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            f"{out} exists and is not an empty folder. Fix: name another, or remove it."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        _write_files(scratch / "new", videos, seed, difficulty, frame_step)
        (scratch / "new").rename(out)
    finally:
        shutil.rmtree(scratch)
    return out


def split_sizes(videos: int) -> dict[str, int]:
    """How many videos `write_mini` puts into each split."""
    return {split: videos if split == "train" else max(1, videos // 4) for split in SPLIT_VIDEOS}


@lru_cache(maxsize=8)
def _load(split: str, options: MiniOptions, frames_root: Path | None) -> Dataset:
    files = _make_files(split, options)
    rows: Rows = list(enumerate(files.rows, start=1))
    return Dataset(
        name=MINI,
        split=split,
        tasks=tuple(task for _, task in read_tasks(Path(MINI), rows, Rejects(False))),
        videos=LazyVideos(
            group_by_video(files.subtitles),
            files.subtitles,
            files.captions,
            frames_root,
            times=ClipTimes(clip_s=CLIP_S),
        ),
    )


def _make_files(split: str, options: MiniOptions) -> _Files:
    if split not in SPLIT_VIDEOS:
        raise DatasetNotFoundError(
            f"no split {split!r} of mini; splits: {', '.join(SPLIT_VIDEOS)}.",
            mend="pass one of these.",
        )
    n_videos = SPLIT_VIDEOS[split] if options.videos is None else options.videos
    difficulty = Difficulty(options.difficulty, options.compare)
    season = len(SPLIT_VIDEOS) * options.seed + list(SPLIT_VIDEOS).index(split)
    files = _Files()
    for number in range(n_videos):
        seed = derive_seed(MINI, VERSION, options.seed, split, number)
        dice = Dice(np.random.default_rng(seed))
        world = make_world(dice, difficulty)
        video_id = f"mini_s{season:02d}e{number:04d}"
        clip_ids = _clip_ids(video_id, world)
        files.rows.extend(make_rows(world, video_id, clip_ids, dice, difficulty))
        for clip_id, scene in zip(clip_ids, world.scenes, strict=True):
            files.scenes[clip_id] = scene
            files.subtitles[clip_id] = " <eos> ".join(
                f"{who} : {what}" for who, what in scene.lines
            )
            files.captions[clip_id] = list(_captions(scene))
    return files


def _clip_ids(video_id: str, world: World) -> list[str]:
    return [
        f"{video_id}_seg{i // SEGMENT_CLIPS + 1:02d}_clip_{i % SEGMENT_CLIPS:02d}"
        for i in range(len(world.scenes))
    ]


def _captions(scene: Scene) -> Iterator[dict[str, Any]]:
    """Captions of the whole scene, independent of the questions."""
    place = words.SEEN_PLACE.format(place=scene.place)
    yield {"start_s": 0, "end_s": CLIP_S, "text": place}
    for figure in scene.figures:
        holds = words.SEEN_THING.format(
            person=figure.person, colour=figure.colour, thing=figure.thing
        )
        does = words.SEEN_ACTION.format(person=figure.person, action=figure.action)
        for text in (holds, does):
            yield {"start_s": figure.start_s, "end_s": figure.end_s, "text": text}


def _check_frames(frames_root: str | Path | None) -> Path | None:
    if frames_root is None:
        return None
    path = Path(frames_root).expanduser().resolve()
    if not path.is_dir():
        raise DatasetNotFoundError(
            "frames_root is not a folder.",
            path,
            None,
            "draw frames with `longvideo-env mini --frames`, or leave it out.",
        )
    return path


def _write_files(
    folder: Path, videos: int, seed: int, difficulty: float, frame_step: int | None
) -> None:
    folder.mkdir()
    subtitles: dict[str, str] = {}
    captions: dict[str, list[dict[str, Any]]] = {}
    for split, n_videos in split_sizes(videos).items():
        files = _make_files(split, MiniOptions(n_videos, seed, difficulty))
        _write_json(folder / f"{_PREFIX}_{split}.json", files.rows)
        subtitles.update(files.subtitles)
        captions.update(files.captions)
        if frame_step is not None:
            for clip_id, scene in files.scenes.items():
                draw_scene(scene, folder / "frames" / clip_id, frame_step)
    episodes = {
        video_id: "".join(f"<{_label(c)}>{subtitles[c]}</{_label(c)}>" for c in clip_ids)
        for video_id, clip_ids in group_by_video(subtitles).items()
    }
    _write_json(folder / f"{_PREFIX}_subtitle_clip_level.json", subtitles)
    _write_json(folder / f"{_PREFIX}_subtitle_episode_level.json", episodes)
    _write_json(folder / "captions.json", captions)


def _label(clip_id: str) -> str:
    """A clip's id without its video's id, as used in episode-level subtitles."""
    return clip_id[clip_id.index("_seg") + 1 :]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=0) + "\n", encoding="utf-8")
