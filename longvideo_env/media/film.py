"""A film file, decoded once from start to end (library PyAV): its length, cuts and pictures.

Times count from the start of the container and use the pictures' time stamps. So variable frame
rates, video streams that start late, and missing pictures are handled correctly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longvideo_env.errors import DatasetNotFoundError, MalformedFileError, MissingExtraError
from longvideo_env.media.captions.stamps import read_stamp

if TYPE_CHECKING:
    from PIL.Image import Image

_TINY = (32, 18)  # size at which pictures are compared to find cuts
MISSING_END_S = 2.0
"""Seconds of the announced length that may be missing before a film counts as cut off."""

_PLAYLISTS = (b"#EXTM3U", b"<?xml", b"<MPD", b"<Smooth", b"ffconcat", b"v=0")
_OPEN_OTHERS = frozenset(
    {"avisynth", "concat", "concatf", "dash", "hls", "image2", "image2pipe", "imf", "lavfi", "rtp",
     "rtsp", "sap", "sdp", "vapoursynth", "webm_dash_manifest"}
)  # fmt: skip
"""Formats that load other files or addresses. They are refused."""

_MEND = "check that the file plays, or copy it again."


@dataclass(frozen=True, slots=True)
class FilmInfo:
    """What is known about a film after decoding.

    Attributes:
        length_s: Seconds from the start of the container to the last decoded part.
        announced_s: The length that the container states, or None.
        n_pictures: Number of decoded pictures.
        first_picture_s: Time of the first picture, or None without pictures.
        changes: `(time_s, difference from the previous picture, 0 to 1)`, three per second.
        fault: Why decoding stopped early, or None.
    """

    length_s: float
    announced_s: float | None
    n_pictures: int
    first_picture_s: float | None
    changes: tuple[tuple[float, float], ...] = ()
    fault: str | None = None


def survey(path: Path, fps: float, tick: Callable[[float], None] = lambda _: None) -> FilmInfo:
    """Decode a film once, to find its length and where the picture changes.

    Args:
        path: The film, in any container and codec that FFmpeg knows.
        fps: Number of pictures per second to compare.
        tick: Called with the time reached.

    Raises:
        DatasetNotFoundError: The file cannot be opened.
        MalformedFileError: The file is not a film, or has neither pictures nor sound.
        MissingExtraError: PyAV or Pillow is not installed.
    """
    with open_film(path) as container:
        announced = container.duration / 1_000_000 if container.duration else None
        stream = _film_stream(container, path)
        if stream is None:
            return _survey_sound(container, announced, path)
        changes: list[tuple[float, float]] = []
        before: np.ndarray | None = None
        n, first, end, due, fault = 0, None, 0.0, 0.0, None
        try:
            for frame, time_s, duration_s in _pictures(container, stream):
                n, end = n + 1, max(end, time_s + duration_s)
                first = time_s if first is None else first
                if time_s < due:
                    continue
                due = time_s + 0.999 / fps
                tiny = _tiny(frame)
                if before is not None:
                    changes.append((time_s, float(np.abs(tiny - before).mean()) / 255))
                before = tiny
                tick(time_s)
        except av_error() as error:
            fault = f"{error!s:.120}"
    if n == 0:
        raise MalformedFileError(
            f"expected pictures, but none can be decoded ({fault or 'the video stream is empty'}).",
            path,
            None,
            _MEND,
        )
    if fault is None and announced is not None and end < announced - MISSING_END_S:
        end = max(end, _sound_end(path))  # the end may have only sound
        fault = "the file ends early" if end < announced - MISSING_END_S else None
    if fault is None:
        end = max(end, announced or 0.0)
    return FilmInfo(end, announced, n, first, tuple(changes), fault)


def pictures_at(
    path: Path,
    times_s: Sequence[float],
    longest_side: int,
    tick: Callable[[float], None] = lambda _: None,
) -> Iterator[tuple[int, Image]]:
    """The pictures shown at some times, upright, as `(position in times_s, image)`.

    Args:
        path: The film.
        times_s: Times in order. There are no pictures before the first and after the last one.
        longest_side: Larger pictures are scaled down to this.
        tick: Called with the time reached.

    Raises:
        MalformedFileError: The film cannot be opened.
        MissingExtraError: PyAV or Pillow is not installed.
    """
    at = 0
    shown: tuple[Any, float, float] | None = None
    with open_film(path) as container:
        stream = _film_stream(container, path)
        if stream is None:
            return
        pixel_ratio = float(stream.sample_aspect_ratio or 1)
        pictures = _pictures(container, stream)
        while at < len(times_s):
            following = _next_or_none(pictures)
            until = following[1] if following else float("inf")
            if shown is None:
                at += int(np.searchsorted(times_s[at:], until - 1e-6))
            else:
                if following is None:
                    until = shown[1] + max(shown[2], 0.0) + 1e-6
                due = range(at, at + int(np.searchsorted(times_s[at:], until - 1e-6)))
                if due:
                    image = _upright(shown[0], pixel_ratio, longest_side)
                    yield from ((i, image) for i in due)
                    at = due.stop
                    tick(shown[1])
            if following is None:
                return
            shown = following


def _next_or_none(pictures: Iterator[tuple[Any, float, float]]) -> tuple[Any, float, float] | None:
    try:
        return next(pictures, None)
    except av_error():  # `survey` has reported it; pictures decoded before it are valid
        return None


def _film_stream(container: Any, path: Path) -> Any:
    """The longest video stream, or None. A cover picture does not count."""
    from av.stream import Disposition

    streams = [x for x in container.streams.video if not x.disposition & Disposition.attached_pic]
    if len(streams) < 2:
        return streams[0] if streams else None
    lengths = {x.index: _stream_length(x) for x in streams}
    if 0.0 in lengths.values():
        for index in lengths:
            with open_film(path) as other:
                lengths[index] = _demux(other, other.streams[index])[0]
    return max(streams, key=lambda x: (lengths[x.index], x.width * x.height, -x.index))


def _stream_length(stream: Any) -> float:
    """Length in seconds by the container. 0 if unknown."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return read_stamp(stream.metadata.get("DURATION", "")) or 0.0


def _pictures(container: Any, stream: Any) -> Iterator[tuple[Any, float, float]]:
    """Each picture with its time from the start of the container and its duration."""
    stream.thread_type = "AUTO"
    start_s = (container.start_time or 0) / 1_000_000
    rate = float(stream.average_rate or 25)
    last = -1.0
    for frame in container.decode(stream):
        time_s = last + 1 / rate if frame.time is None else float(frame.time) - start_s
        if time_s > last:  # damaged time stamps may go back; such pictures are skipped
            last = max(time_s, 0.0)
            duration = float((frame.duration or 0) * (frame.time_base or 0)) or 1 / rate
            yield frame, last, duration


def _survey_sound(container: Any, announced: float | None, path: Path) -> FilmInfo:
    """Survey a film without pictures. Its sound gives the length."""
    if not container.streams.audio:
        raise MalformedFileError(
            "expected a film, but there is neither a video nor an audio stream.", path, None, _MEND
        )
    end, fault = _demux(container, container.streams.audio[0])
    if fault is None and announced is not None and end < announced - MISSING_END_S:
        fault = "the file ends early"
    if end <= 0:
        raise MalformedFileError("expected sound, but the stream is empty.", path, None, _MEND)
    return FilmInfo(end, announced, 0, None, (), fault)


def _sound_end(path: Path) -> float:
    with open_film(path) as container:
        sound = container.streams.audio
        return _demux(container, sound[0])[0] if sound else 0.0


def _demux(container: Any, stream: Any) -> tuple[float, str | None]:
    """The end of a stream in seconds, and why reading stopped early, or None."""
    end, start_s = 0.0, (container.start_time or 0) / 1_000_000
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                ends = (packet.pts + (packet.duration or 0)) * packet.time_base
                end = max(end, float(ends) - start_s)
    except av_error() as error:
        return end, f"{error!s:.120}"
    return end, None


def _tiny(frame: Any) -> np.ndarray:
    grey = frame.reformat(width=_TINY[0], height=_TINY[1], format="gray").to_ndarray()
    return np.asarray(grey, dtype=np.float32)


def _upright(frame: Any, pixel_ratio: float, longest_side: int) -> Image:
    """The picture with square pixels, rotated upright, and scaled down if needed."""
    image: Image = frame.to_image()
    width, height = image.width * pixel_ratio, float(image.height)
    scale = min(1.0, longest_side / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != image.size:
        image = image.resize(size)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


@contextmanager
def open_film(path: Path) -> Iterator[Any]:
    """An open container of PyAV.

    Raises:
        DatasetNotFoundError: The file cannot be opened.
        MalformedFileError: The file is not a film.
        MissingExtraError: PyAV or Pillow is not installed.
    """
    try:
        import av
        import PIL  # noqa: F401 - PyAV needs it to make images
    except ImportError as error:
        raise MissingExtraError(error.name or "av", "video") from error
    if not path.is_file():
        raise DatasetNotFoundError("no such film.", path, None, "check the path.")
    try:
        with open(path, "rb") as file:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        problem = f"the film cannot be read ({error.strerror})."
        raise DatasetNotFoundError(problem, path, None, "check its permissions.") from error
    if head.startswith(_PLAYLISTS):  # FFmpeg would wait for more of a broadcast
        raise MalformedFileError(
            "expected a film, but this is a playlist.",
            path,
            None,
            "pass the film itself.",
        )
    try:
        # An absolute path cannot be taken for an address. The allowed formats open no other file.
        options = {"protocol_whitelist": "file", "format_whitelist": _formats()}
        container = av.open(str(path.absolute()), container_options=options)
    except av.error.FFmpegError as error:
        raise MalformedFileError(
            f"expected a film, but it cannot be opened ({error!s:.120}).", path, None, _MEND
        ) from error
    with container:
        yield container


@cache
def _formats() -> str:
    """All formats of FFmpeg except those that open other files."""
    import av

    return ",".join(sorted(av.formats_available - _OPEN_OTHERS))


def av_error() -> type[Exception]:
    """The exception type of PyAV."""
    import av

    error: type[Exception] = av.error.FFmpegError
    return error
