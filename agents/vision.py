"""Vision agents that need no network: `captions`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from agents.ranking import Ranking
from longvideo_env.errors import SpecError
from longvideo_env.schema import TimedText, Video
from longvideo_env.tools import ToolReply, VisionRequest

DEFAULT_CAPTIONS = 5
NOTHING = "Nothing is known about what these clips show."

_Indexed = tuple[list[tuple[str, TimedText]], Ranking]


class CaptionVision:
    """Answers from descriptions of the clips: the best `k`, ranked against the query by BM25.

    What matches best comes first. Spec: `captions` or `captions:K`.
    """

    immediate = True

    def __init__(self, argument: str = "") -> None:
        if argument and not (argument.isdecimal() and int(argument) > 0):
            raise SpecError(f"expected captions:K with a number K above 0, got {argument!r}.")
        self.k = int(argument) if argument else DEFAULT_CAPTIONS

    async def look(self, request: VisionRequest, /) -> ToolReply:
        """Return the best captions of the window, one a line, with their times."""
        captions, ranking = _index_captions(request.video, request.clip_ids)
        if not captions:
            return ToolReply(NOTHING, {"n_captions": 0})
        order = np.argsort(-ranking.scores(request.query), kind="stable")[: self.k]
        name_clips = len(request.clip_ids) > 1
        lines = [_line(*captions[i], name_clip=name_clips) for i in order]
        return ToolReply("\n".join(lines), {"n_captions": len(lines)})


@lru_cache(maxsize=4096)
def _index_captions(video: Video, clip_ids: tuple[str, ...]) -> _Indexed:
    captions = [(clip_id, caption) for clip_id in clip_ids for caption in video[clip_id].captions]
    return captions, Ranking([caption.text for _, caption in captions])


def _line(clip_id: str, caption: TimedText, *, name_clip: bool) -> str:
    parts = [clip_id] if name_clip else []
    if caption.start_s is not None:
        end_s = caption.start_s if caption.end_s is None else caption.end_s
        parts.append(f"{_clock(caption.start_s)}-{_clock(end_s)}")
    return f"[{' '.join(parts)}] {caption.text}" if parts else caption.text


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
