"""Picks the frames that a master that sees is shown with a view. Gives file names, not images.

    look_at(video, ("s01_clip_00",), (), 4)    # Sight(frames=(FrameRef(...), ...), there=180)

The folders are listed once per view. A file that is not a complete JPEG or PNG is replaced by the
nearest complete one, and counted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from longvideo_env.game.words.fields import ShownFrame
from longvideo_env.media.frames import frames_in_spans, frames_of_clips, pick_whole
from longvideo_env.schema import FrameRef, Video, clock
from longvideo_env.spans import Span
from longvideo_env.tools.calls import ToolReply


class Sight(NamedTuple):
    """Frames of a view.

    Attributes:
        frames: The frames shown, in order of time.
        there: Number of frames that the view has on disk.
        unreadable: Number of broken files that were skipped.
        spans: The stretches of the whole video in view. Empty if the view is whole clips.
    """

    frames: tuple[FrameRef, ...] = ()
    there: int = 0
    unreadable: int = 0
    spans: tuple[Span, ...] = ()

    def fields(self, video: Video) -> dict[str, Any]:
        """Fields for the words: times in the clip, or in the video if the view is stretches."""
        shown, before = [], None
        for one in self.frames:
            start = video.clip_times(one.clip_id)[0] if self.spans else 0.0
            new = not self.spans and one.clip_id != before
            shown.append(ShownFrame(one.clip_id if new else "", clock(start + one.time_s)))
            before = one.clip_id
        return {"frames": tuple(shown), "n_there": self.there}


@lru_cache(maxsize=8192)
def look_at(video: Video, clip_ids: tuple[str, ...], spans: tuple[Span, ...], most: int) -> Sight:
    """Pick at most `most` frames, spread evenly over a view.

    Args:
        video: The video.
        clip_ids: The clips of the view. Ignored if there are stretches.
        spans: Stretches of the whole video, in seconds.
        most: Maximum number of frames.
    """
    there = frames_in_spans(video, spans) if spans else frames_of_clips(video, clip_ids)
    places, bad = pick_whole([one.frame.path for one in there], most)
    frames = [
        FrameRef(there[i].clip_id, frame.frame_index, frame.time_s, frame.path)
        for i in places
        for frame in [there[i].frame]
    ]
    return Sight(tuple(frames), len(there), len(bad), spans)


def sight_of(
    video: Video, view: tuple[str, ...], span: Span | None, reply: ToolReply, most: int
) -> Sight | None:
    """The frames shown with a tool's reply. None if the reply shows or describes no stretch.

    Args:
        video: The video.
        view: The clips in view.
        span: The stretch in view, if the view is a stretch.
        reply: The tool's reply.
        most: Maximum number of frames.
    """
    if reply.view is not None:
        return look_at(video, view, () if span is None else (span,), most)
    return look_at(video, (), reply.spans, most) if reply.spans else None
