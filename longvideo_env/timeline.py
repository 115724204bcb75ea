"""What is said and shown when, in seconds of the whole video.

    length_s(video)                        # 840.0
    dialogue(video)                        # every line, with its time in the whole video
    within(descriptions(video), [(60, 75)])
    pieces_of(video, [(50, 75)])           # (("clip_00", 50.0, 60.0), ("clip_01", 0.0, 15.0))

Lines without times are spread evenly over their clip. A description without a time covers its whole
clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

from longvideo_env.schema import Clip, TimedText, Video
from longvideo_env.spans import Span, merge_spans

Piece: TypeAlias = tuple[str, float, float]
"""`(clip_id, start_s, end_s)`: a stretch inside one clip, in seconds of the clip."""

_VIDEOS = 1024


def length_s(video: Video) -> float:
    """Length of the video: the end of its last clip."""
    return video.length_s


def pieces_of(video: Video, spans: Sequence[Span]) -> tuple[Piece, ...]:
    """Split stretches at clip boundaries. Empty pieces are dropped."""
    if not spans:
        return ()
    found: list[Piece] = []
    merged = merge_spans(spans)
    for clip_id in video.clip_ids:
        start, end = video.clip_times(clip_id)
        for a, b in merged:
            low, high = max(a, start), min(b, end)
            if low < high:
                found.append((clip_id, round(low - start, 6), round(high - start, 6)))
    return tuple(found)


def clips_at(video: Video, spans: Sequence[Span]) -> tuple[str, ...]:
    """The clips that the stretches touch, in order of time."""
    return tuple(dict.fromkeys(clip_id for clip_id, _, _ in pieces_of(video, spans)))


def whole_clips(video: Video, clip_ids: Iterable[str]) -> tuple[Piece, ...]:
    """Clips as pieces: each from its start to its end."""
    return tuple(map(video.whole_clips.__getitem__, clip_ids))


def seconds_of(pieces: Iterable[Piece]) -> float:
    """Seconds in the union of pieces. Overlaps count once."""
    by_clip: dict[str, list[Span]] = {}
    for clip_id, start, end in pieces:
        by_clip.setdefault(clip_id, []).append((start, end))
    return sum(end - start for spans in by_clip.values() for start, end in merge_spans(spans))


@lru_cache(maxsize=_VIDEOS)
def dialogue(video: Video) -> tuple[TimedText, ...]:
    """Every line of dialogue, with its time in the whole video."""
    return tuple(
        line for clip in video.clips for line in _placed(video, clip, clip.subtitles, spread=True)
    )


@lru_cache(maxsize=_VIDEOS)
def descriptions(video: Video) -> tuple[TimedText, ...]:
    """Every description of what is seen, with its time in the whole video."""
    return tuple(
        line
        for clip in video.clips
        for line in _placed(video, clip, (*clip.captions, *clip.layer("captions")), spread=False)
    )


@lru_cache(maxsize=_VIDEOS)
def read_in_frames(video: Video) -> tuple[TimedText, ...]:
    """Every text that a model read in the frames, with its time in the whole video."""
    return tuple(
        line
        for clip in video.clips
        for line in _placed(video, clip, clip.layer("text"), spread=False)
    )


def within(lines: Iterable[TimedText], spans: Sequence[Span]) -> tuple[TimedText, ...]:
    """The lines that the stretches touch, in order."""
    return tuple(line for line in lines if any(_touches(line, start, end) for start, end in spans))


def _touches(line: TimedText, start: float, end: float) -> bool:
    assert line.start_s is not None
    assert line.end_s is not None
    return line.start_s < end and (line.end_s > start or line.start_s == line.end_s >= start)


def _placed(
    video: Video, clip: Clip, lines: Sequence[TimedText], *, spread: bool
) -> Iterable[TimedText]:
    start, end = video.clip_times(clip.clip_id)
    each = (end - start) / len(lines) if lines else 0.0
    for i, line in enumerate(lines):
        if line.start_s is not None:
            last = line.start_s if line.end_s is None else line.end_s
            yield TimedText(line.text, start + line.start_s, start + max(last, line.start_s))
        elif spread:
            first = start + i * each
            yield TimedText(line.text, round(first, 6), round(first + each, 6))
        else:
            yield TimedText(line.text, start, end)
