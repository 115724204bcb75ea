"""Thumbnails of frames as data URIs, bounded in number and size."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longvideo_env.errors import DatasetNotFoundError, MissingExtraError, SpecError
from longvideo_env.media.frames import FPS, Frame, list_frames, spread
from longvideo_env.schema import Video

PER_LOOK = 8
WIDTH = 384
QUALITY = 68

STRIP = 12
"""The most pictures along the timeline of a video."""
STRIP_WIDTH = 144


class Thumbs:
    """Makes each thumbnail once, and stops when there are enough.

    Args:
        most: The most thumbnails of looks. Also the most small ones along timelines. 0 for none.
        roots: Folders of frames. Files named in trajectories are read only from these.

    Attributes:
        images: Data URIs. Turns refer to them by index.
        small: Data URIs of the pictures along timelines.
        n_left_out: Frames left out because there was no room.
    """

    def __init__(self, most: int, roots: Iterable[Path] = ()) -> None:
        self._most = most
        self._roots = [root.resolve() for root in roots]
        self._places: dict[Path, int | None] = {}
        self.images: list[str] = []
        self.small: list[str] = []
        self.n_left_out = 0

    def strips(self, videos: Sequence[Video | None]) -> list[list[list[int]]]:
        """Pictures along the timeline of each video: `[index of the clip, index in small]`.

        Clips are evenly spread. Each is shown by its middle frame. If there are more videos than
        pictures, the last videos have none.
        """
        known = [video for video in dict.fromkeys(videos) if video is not None]
        share = max(1, min(STRIP, self._most // max(1, len(known))))
        made = {video: self._strip(video, share) for video in known}
        return [[] if video is None else made[video] for video in videos]

    def _strip(self, video: Video, most: int) -> list[list[int]]:
        if video.frames_root is None:
            return []
        found: list[list[int]] = []
        for clip in spread(range(len(video.clips)), most):
            frames = _list(video, video.clip_ids[clip])
            if not frames or len(self.small) >= self._most:
                continue
            image = thumbnail(frames[len(frames) // 2].path, STRIP_WIDTH)
            if image is not None:
                found.append([clip, len(self.small)])
                self.small.append(image)
        return found

    def of_turn(
        self, turn: Mapping[str, Any], video: Video | None, clips: Sequence[str]
    ) -> dict[str, Any] | None:
        """The frames of a look: those recorded as sent, or else some frames of the clips in view.

        Args:
            turn: The turn as recorded.
            video: Its video, or None if the dataset could not be read.
            clips: The known clips of the video, in order.

        Returns:
            `sent`, `total` and `frames`. Each frame is `[index, seconds or None, index of the clip
            or None]`, in seconds of the whole video. None without frames.
        """
        request = turn.get("request") or {}
        if not request or turn.get("moves") or not self._most:
            return None
        named = _named(turn)
        placed = [self._sent(item, video) for item in spread(named, PER_LOOK)]
        if not named:
            there = _of_clips(request.get("view") or (), video)
            placed = [(self._place(f.path), f.time_s, clip) for clip, f in spread(there, PER_LOOK)]
        frames = [
            [place, _film_s(clip, at, video), clips.index(clip) if clip in clips else None]
            for place, at, clip in placed
            if place is not None
        ]
        total = len(named) or len(there)
        return {"sent": bool(named), "total": total, "frames": frames} if frames else None

    def of_master(
        self, segments: Sequence[Mapping[str, Any]], video: Video | None, clips: Sequence[str]
    ) -> dict[str, Any] | None:
        """The frames in some segments that were shown to a master that sees.

        Returns:
            As `of_turn`, with `seen` instead of `sent`. Frames without a file are left out of
            `frames`.
        """
        named = [frame for segment in segments for frame in segment.get("frames", ())]
        if not named or not self._most:
            return None
        there = {
            (clip_id, frame.frame_index): frame.path
            for clip_id in {str(clip_id) for clip_id, _, _ in named}
            if video is not None and clip_id in video
            for frame in _list(video, clip_id)
        }
        frames = [
            [place, _film_s(clip, at, video), clips.index(clip) if clip in clips else None]
            for clip, index, at in spread(named, PER_LOOK)
            if (place := self._place(there.get((clip, index)))) is not None
        ]
        return {"seen": True, "total": len(named), "frames": frames}

    def _sent(
        self, item: object, video: Video | None
    ) -> tuple[int | None, float | None, str | None]:
        if isinstance(item, Mapping):
            path, time_s, clip = item.get("path"), item.get("time_s"), item.get("clip_id")
        else:
            path, time_s, clip = item, None, None
        if not isinstance(path, str):
            return None, None, None
        if time_s is None and Path(path).stem.isdecimal():
            time_s = (int(Path(path).stem) - 1) / (FPS if video is None else video.frames_fps)
        place = self._place(self._below_a_root(path, video))
        return place, time_s, clip or Path(path).parent.name or None

    def _below_a_root(self, name: str, video: Video | None) -> Path | None:
        """A named file, if it is below a folder of frames. Other files never get into a page."""
        roots = [*self._roots]
        if video is not None and video.frames_root is not None:
            roots.append(video.frames_root.resolve())
        for root in roots:
            path = (root / name).resolve()
            if path.is_relative_to(root) and path.is_file():
                return path
        return None

    def _place(self, path: Path | None) -> int | None:
        if path is None:
            return None
        if path not in self._places:
            if len(self.images) >= self._most:
                self.n_left_out += 1
                return None
            image = thumbnail(path)
            self._places[path] = None if image is None else len(self.images)
            self.images += [] if image is None else [image]
        return self._places[path]


def _of_clips(clip_ids: Sequence[str], video: Video | None) -> list[tuple[str, Frame]]:
    """The frames of the clips, used if the sent frames were not recorded."""
    if video is None or video.frames_root is None:
        return []
    return [(clip, frame) for clip in clip_ids if clip in video for frame in _list(video, clip)]


def _film_s(clip: str | None, time_s: float | None, video: Video | None) -> float | None:
    """A time within a clip as a time in the whole video. None if the video is not known."""
    if time_s is None or video is None or clip is None or clip not in video:
        return None
    return round(video.clip_times(clip)[0] + time_s, 2)


def thumbnail(path: Path, width: int = WIDTH) -> str | None:
    """A small JPEG as a data URI. None if the file is not an image.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError("pillow", "report") from error
    out = io.BytesIO()
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((width, width))
            small.save(out, "JPEG", quality=QUALITY, optimize=True)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    return "data:image/jpeg;base64," + b64encode(out.getvalue()).decode("ascii")


def _named(turn: Mapping[str, Any]) -> list[Any]:
    """The frame files that a turn names, in itself, its result or its details."""
    result = turn.get("result") or {}
    for place in (turn, result, result.get("details") or {}):
        for key in ("frames", "frame_paths"):
            if isinstance(place.get(key), list):
                return list(place[key])
    return []


def _list(video: Video, clip_id: str) -> Sequence[Frame]:
    try:
        return list_frames(video, clip_id)
    except (DatasetNotFoundError, SpecError):
        return ()
