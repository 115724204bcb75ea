"""Clips and stretches of a video as fields of the words."""

from __future__ import annotations

from longvideo_env.game.words.fields import ShownClip, ShownLine
from longvideo_env.schema import TimedText, Video, clock
from longvideo_env.spans import Span
from longvideo_env.timeline import dialogue, within

MOST_LINES = 128
"""Lines of dialogue that one stretch shows; how many were left out is said below them."""


def shown_clip(video: Video, clip_id: str, *, seconds: bool) -> ShownClip:
    """A clip with its lines.

    Args:
        video: Its video.
        clip_id: Which one.
        seconds: Give the times in seconds of the whole video, and not as minutes of the clip.
    """
    start, end = video.clip_times(clip_id)

    def time(line: TimedText) -> str:
        if line.start_s is None:
            return ""
        return f"{start + line.start_s:g} s" if seconds else clock(line.start_s)

    lines = tuple(ShownLine(line.text, time(line)) for line in video[clip_id].subtitles)
    return ShownClip(clip_id, lines, f"{start:g}-{end:g}")


def shown_span(video: Video, span: Span) -> ShownClip:
    """A stretch as the words show it, its lines with their times in the whole video."""
    lines = within(dialogue(video), [span])
    shown = [ShownLine(line.text, clock(line.start_s or 0.0)) for line in lines[:MOST_LINES]]
    if len(lines) > MOST_LINES:
        left = f"({len(lines) - MOST_LINES} more lines: ask for a shorter stretch)"
        shown.append(ShownLine(left, ""))
    name = f"{span[0]:g}-{span[1]:g} s"
    return ShownClip(name, tuple(shown), f"{span[0]:g}-{span[1]:g}")
