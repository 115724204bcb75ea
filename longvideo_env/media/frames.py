"""Frames of a clip on disk. They are listed only when a vision agent asks for them.

TVQA's frames are numbered from 1 at 3 frames per second, with a folder for each clip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from longvideo_env.errors import DatasetNotFoundError, SpecError
from longvideo_env.ids import parse_clip_id, show_of
from longvideo_env.schema import Video
from longvideo_env.spans import Span
from longvideo_env.timeline import clips_at

FPS = 3
"""Frames per second in TVQA's frames and boxes. `Video.frames_fps` has the value for a video."""

_FRAME_NAME = re.compile(r"([0-9]{1,9})\.(?:jpg|jpeg|png)\Z", re.IGNORECASE)

_TAIL = 4096  # cameras append thumbnail data and zeros
_MARKS = ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND"))
"""First and last bytes of a complete JPEG and PNG."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a clip.

    Attributes:
        path: The image.
        frame_index: Number in the file's name, from 1.
        time_s: Seconds from the start of the clip.
    """

    path: Path
    frame_index: int
    time_s: float


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """A frame with its clip."""

    clip_id: str
    frame: Frame


def list_frames(video: Video, clip_id: str) -> tuple[Frame, ...]:
    """List a clip's frames in order of time: `<root>/<clip>` or `<root>/<show>_frames/<clip>`.

    Numbers may have any zero padding and any step. The list is empty if the video has no
    `frames_root` or the clip has no folder.

    Raises:
        SpecError: The clip does not belong to the video.
        DatasetNotFoundError: The folder exists but cannot be read.
    """
    name = parse_clip_id(clip_id)
    if clip_id not in video:
        raise SpecError(
            f"expected one of the {len(video.clips)} clips of {video.video_id!r}, got {clip_id!r}. "
            "Fix: check `clip_id in video` first."
        )
    if video.frames_root is None or name is None:
        return ()
    folders = [video.frames_root / clip_id]
    if show := show_of(name.video_id):
        folders.append(video.frames_root / f"{show}_frames" / clip_id)
    return next((frames for folder in folders if (frames := _scan(folder, video.frames_fps))), ())


def frames_of_clips(video: Video, clip_ids: Sequence[str]) -> list[PlacedFrame]:
    """All frames of some clips, in order."""
    return [PlacedFrame(c, frame) for c in clip_ids for frame in list_frames(video, c)]


def frames_in_spans(video: Video, spans: Sequence[Span]) -> list[PlacedFrame]:
    """All frames of some stretches of the whole video, in order of time.

    If a stretch contains no frame, it gets the nearest one.
    """
    there = []
    for clip_id in clips_at(video, spans):
        start, end = video.clip_times(clip_id)
        frames = list_frames(video, clip_id)
        inside = [(max(a, start) - start, min(b, end) - start) for a, b in spans if a < end > start]
        chosen = {}
        for low, high in inside:
            if low < high and frames:
                own = [f for f in frames if low <= f.time_s < high]
                for frame in own or [min(frames, key=lambda f: abs(f.time_s - low))]:
                    chosen[frame.frame_index] = frame
        there += [PlacedFrame(clip_id, chosen[index]) for index in sorted(chosen)]
    return there


@dataclass(frozen=True, slots=True)
class FrameSample:
    """Frames picked from a clip.

    Attributes:
        frames: In order of time. All files are complete.
        skipped: `(path, fault)` for each file that was skipped.
    """

    frames: tuple[Frame, ...]
    skipped: tuple[tuple[Path, str], ...] = ()


def sample_frames(video: Video, clip_id: str, n: int) -> FrameSample:
    """Pick `n` frames, spread evenly. A broken file is replaced by the nearest complete one.

    Raises:
        SpecError: The clip does not belong to the video.
        DatasetNotFoundError: The folder exists but cannot be read.
    """
    frames = list_frames(video, clip_id)
    taken, problems = pick_whole([frame.path for frame in frames], n)
    return FrameSample(
        tuple(frames[i] for i in taken), tuple((frames[i].path, p) for i, p in problems.items())
    )


def pick_whole(paths: Sequence[Path], n: int) -> tuple[list[int], dict[int, str]]:
    """Indices of `n` images, spread evenly. A broken file is replaced by the nearest complete one.

    Returns:
        The indices, in order; and the faults of the skipped files by index.
    """
    problems: dict[int, str | None] = {}
    taken: set[int] = set()
    for wanted in spread(range(len(paths)), n):
        for place in sorted(range(len(paths)), key=lambda i: (abs(i - wanted), i)):
            if place in taken:
                continue
            if place not in problems:
                problems[place] = frame_problem(paths[place])
            if problems[place] is None:
                taken.add(place)
                break
    return sorted(taken), {i: p for i, p in sorted(problems.items()) if p is not None}


def frame_problem(path: Path) -> str | None:
    """The fault of a file that should be a complete JPEG or PNG; otherwise None.

    Checks the first and last bytes. The picture is not decoded.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not size:
        return "empty"
    for start, end in _MARKS:
        if head.startswith(start):
            return None if end in tail and size > len(start) + len(end) else "truncated"
    return f"not a JPEG or PNG image (starts with {head[:4].hex(' ')})"


def spread(items: Sequence[_T], n: int) -> tuple[_T, ...]:
    """Pick `n` items evenly over the whole sequence, the first and the last included.

    All of them if there are at most `n`, the middle one for `n = 1`, none for `n < 1`.
    """
    if n < 1 or not items:
        return ()
    if n == 1:
        return (items[(len(items) - 1) // 2],)
    if n >= len(items):
        return tuple(items)
    # Integers, rounded to nearest: no float error, and no item twice.
    last, gaps = len(items) - 1, n - 1
    return tuple(items[(2 * i * last + gaps) // (2 * gaps)] for i in range(n))


def _scan(folder: Path, fps: float) -> tuple[Frame, ...]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise DatasetNotFoundError(
            f"the folder of frames cannot be read ({error.strerror}).",
            folder,
            None,
            "check its permissions.",
        ) from error
    # One frame per number: .png files beside .jpg files are the same frames.
    numbered = {
        int(match[1]): name
        for name in sorted(names, reverse=True)
        if (match := _FRAME_NAME.match(name)) and int(match[1]) >= 1
    }
    return tuple(
        Frame(folder / numbered[index], index, (index - 1) / fps) for index in sorted(numbered)
    )
