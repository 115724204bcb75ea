"""Picks the frames that a vision agent sees."""

from __future__ import annotations

from functools import lru_cache

from longvideo_env.errors import ToolError
from longvideo_env.media.frames import PlacedFrame as PlacedFrame  # agents read it
from longvideo_env.media.frames import frames_in_spans, frames_of_clips, spread
from longvideo_env.schema import Video
from longvideo_env.spans import Span
from longvideo_env.tools.tool import ToolCall


@lru_cache(maxsize=8192)
def pick_frames(video: Video, clip_ids: tuple[str, ...], n: int) -> tuple[PlacedFrame, ...]:
    """Pick `n` frames, spread evenly over all frames of some clips."""
    return spread(frames_of_clips(video, clip_ids), n)


@lru_cache(maxsize=8192)
def _pick_in_spans(video: Video, spans: tuple[Span, ...], n: int) -> tuple[PlacedFrame, ...]:
    """Pick `n` frames, spread evenly over all frames of some stretches of the whole video."""
    return spread(frames_in_spans(video, spans), n)


def frames_in_view(request: ToolCall, n: int) -> tuple[PlacedFrame, ...]:
    """Pick the frames of a request's view.

    Raises:
        ToolError: There are no frames.
    """
    if request.spans:
        frames = _pick_in_spans(request.video, request.spans, n)
    else:
        frames = pick_frames(request.video, request.view, n)
    if not frames:
        root = request.video.frames_root
        raise ToolError(
            f"there are no frames of {', '.join(request.view)} under "
            f"{root.name + '/' if root else 'any folder'}. Fix: set --frames-root to the folder "
            "with <clip>/ or <show>_frames/<clip>/, or choose another --vision."
        )
    return frames
