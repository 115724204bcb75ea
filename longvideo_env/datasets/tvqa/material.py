"""What is known about the clips of a dataset: texts, captions, and times in the video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from longvideo_env.datasets.jsonfile import read_object, read_rows
from longvideo_env.datasets.layers import RawLayer, read_layers
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.datasets.tvqa.layout import Sources
from longvideo_env.datasets.tvqa.rows import clip_named_by
from longvideo_env.datasets.tvqa.texts import (
    RawCaptions,
    is_time,
    read_captions,
    read_clip_subtitles,
    read_episode_subtitles,
)
from longvideo_env.errors import InvalidRowError, MalformedFileError
from longvideo_env.ids import parse_clip_id
from longvideo_env.schema import NOMINAL_CLIP_S

FPS = 3.0
"""Default frames per second: TVQA's."""


@dataclass(frozen=True, slots=True)
class ClipTimes:
    """Times of clips in their video, and the numbering of their frames.

    Attributes:
        spans: Clip id -> `(start_s, end_s)` in the video.
        frames_fps: Frame numbers per second.
        clip_s: Length in seconds of a clip that is not in `spans`.
    """

    spans: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    frames_fps: float = FPS
    clip_s: float = NOMINAL_CLIP_S

    def as_json(self) -> dict[str, Any]:
        """The contents of `clips.json`."""
        clips = {c: {"start_s": start, "end_s": end} for c, (start, end) in self.spans.items()}
        return {"frames_fps": self.frames_fps, "clips": clips}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ClipTimes:
        """Rebuild from `as_json`."""
        spans = {c: (t["start_s"], t["end_s"]) for c, t in value.get("clips", {}).items()}
        return cls(spans, float(value.get("frames_fps", FPS)))


@dataclass(frozen=True, slots=True)
class Texts:
    """The clips of a dataset and what is known about each.

    Attributes:
        clip_ids: All clips that a file names.
        subtitles: Clip id -> text with `<eos>` after each utterance.
        timed: Clip id -> dialogue with times. Used instead of `subtitles` where present.
        captions: Clip id -> captions.
        times: Times of clips in their video.
        layers: What models heard, read or saw; the newest of each kind.
    """

    clip_ids: frozenset[str] = frozenset()
    subtitles: Mapping[str, str] = field(default_factory=dict)
    timed: RawCaptions = field(default_factory=dict)
    captions: RawCaptions = field(default_factory=dict)
    times: ClipTimes = field(default_factory=ClipTimes)
    layers: tuple[RawLayer, ...] = ()


def read_texts(sources: Sources, rejects: Rejects) -> Texts:
    """Read everything except the questions.

    Without dialogue, other splits' questions also name clips.

    Raises:
        DataError: As `load_dataset`.
    """
    subtitles: dict[str, str] | None = None
    timed: RawCaptions | None = None
    if sources.clip_subtitles is not None:
        subtitles = read_clip_subtitles(sources.clip_subtitles, rejects)
    elif sources.episode_subtitles is not None:
        subtitles = read_episode_subtitles(sources.episode_subtitles, rejects)
    if sources.timed_subtitles is not None:
        timed = read_captions(sources.timed_subtitles, rejects)
    captions = read_captions(sources.captions, rejects) if sources.captions else {}
    times = read_clip_times(sources.clips, rejects) if sources.clips else ClipTimes()
    clip_ids = {*(subtitles or ()), *(timed or ()), *captions, *times.spans}
    if subtitles is None and timed is None:
        for file in sources.siblings:  # their invalid rows do not count for this split
            rows = read_rows(file, Rejects(skip_invalid=True))
            clip_ids.update(clip_id for _, row in rows if (clip_id := clip_named_by(row)))
    layers = read_layers(sources.layers, rejects)
    return Texts(frozenset(clip_ids), subtitles or {}, timed or {}, captions, times, layers)


def read_clip_times(file: Path, rejects: Rejects) -> ClipTimes:
    """Read `clips.json`: `{"frames_fps": 3, "clips": {id: {"start_s", "end_s"}}}`.

    Raises:
        MalformedFileError: The file has another shape.
        InvalidRowError: A clip is wrong, and invalid rows are not skipped.
    """
    value = read_object(file)
    clips, fps = value.get("clips", {}), value.get("frames_fps", FPS)
    if not isinstance(clips, dict) or not _is_number(fps) or fps <= 0:
        raise MalformedFileError(
            "expected 'clips' as an object and 'frames_fps' as a number above 0.",
            file,
            None,
            "write it as docs/data.md says.",
        )
    spans = {}
    for clip_id, times in clips.items():
        span = _read_span(times)
        if span is not None and parse_clip_id(clip_id) is not None:
            spans[clip_id] = span
        else:
            problem = f"expected a clip id and {{start_s, end_s}} in seconds, got {times!r:.60}."
            rejects.add(InvalidRowError(problem, file, clip_id, MEND_ROW))
    return ClipTimes(spans, float(fps))


def _read_span(times: object) -> tuple[float, float] | None:
    if not isinstance(times, dict):
        return None
    start, end = times.get("start_s"), times.get("end_s")
    if not _is_number(start) or not _is_number(end):
        return None
    return (float(start), float(end)) if start <= end else None


def _is_number(value: object) -> TypeGuard[float]:
    return value is not None and is_time(value)
