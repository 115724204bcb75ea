"""Which frames of some clips a vision agent is shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from longvideo_env.errors import ToolError
from longvideo_env.media.frames import Frame, list_frames, spread
from longvideo_env.schema import Video
from longvideo_env.spans import Span
from longvideo_env.timeline import clips_at
from longvideo_env.tools.tool import ToolCall


@dataclass(frozen=True)
class PlacedFrame:
    """A frame with its clip."""

    clip_id: str
    frame: Frame


@lru_cache(maxsize=8192)
def pick_frames(video: Video, clip_ids: tuple[str, ...], n: int) -> tuple[PlacedFrame, ...]:
    """`n` frames, spread evenly over all frames of some clips. Listed once for each request."""
    there = [PlacedFrame(c, frame) for c in clip_ids for frame in list_frames(video, c)]
    return spread(there, n)


@lru_cache(maxsize=8192)
def _pick_in_spans(video: Video, spans: tuple[Span, ...], n: int) -> tuple[PlacedFrame, ...]:
    """`n` frames, spread evenly over all frames of some stretches of the whole video.

    A stretch between two frames has none of its own: it gets the nearest.
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
    return spread(there, n)


def frames_in_view(request: ToolCall, n: int) -> tuple[PlacedFrame, ...]:
    """The frames of a request's view.

    Raises:
        ToolError: There are none.
    """
    if request.spans:
        frames = _pick_in_spans(request.video, request.spans, n)
    else:
        frames = pick_frames(request.video, request.view, n)
    if not frames:
        root = request.video.frames_root
        raise ToolError(
            f"there are no frames of {', '.join(request.view)} under "
            f"{root.name + '/' if root else 'any folder'}. Fix: give --frames-root, the "
            "folder that holds <clip>/ or <show>_frames/<clip>/; or another --vision."
        )
    return frames
