"""Offline vision agents: `captions`, and `text` for text read in the frames."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from agents.ranking import Ranking
from longvideo_env.datasets.layers import CAPTIONS, TEXT
from longvideo_env.errors import SpecError
from longvideo_env.schema import Clip, TimedText, Video, clock
from longvideo_env.spans import Span
from longvideo_env.timeline import descriptions, read_in_frames, within
from longvideo_env.tools.tool import ToolCall, ToolReply

DEFAULT_CAPTIONS = 5
EMPTY = {
    CAPTIONS: "Nothing is known about what these clips show.",
    TEXT: "No text was read in the frames of these clips.",
}


class CaptionVision:
    """Answers from descriptions of the clips: the best `k` for the query by BM25.

    The best match comes first. Spec: `captions` or `captions:K`.
    """

    immediate = True
    kind = CAPTIONS

    def __init__(self, argument: str = "") -> None:
        if argument and not (argument.isdecimal() and int(argument) > 0):
            raise SpecError(f"expected {self.kind}:K with a number K above 0, got {argument!r}.")
        self.k = int(argument) if argument else DEFAULT_CAPTIONS

    async def look(self, request: ToolCall, /) -> ToolReply:
        """Return the best captions of the window, one per line, with times."""
        query = request.query or ""
        if request.spans:
            return _reply_about(request.video, request.spans, query, self.k, self.kind)
        return _reply(request.video, request.view, query, self.k, self.kind)


class TextVision(CaptionVision):
    """Answers from text read in the frames. Spec: `text` or `text:K`."""

    kind = TEXT


def described(clip: Clip, kind: str) -> tuple[TimedText, ...]:
    """The captions of a clip, or the text read in its frames."""
    return (*clip.captions, *clip.layer(CAPTIONS)) if kind == CAPTIONS else clip.layer(kind)


Placed: TypeAlias = tuple[str, TimedText]
"""A caption with its clip."""


# Cached, because every rollout of a group and every epoch asks the same question.
@lru_cache(maxsize=4096)
def _reply(video: Video, clip_ids: tuple[str, ...], query: str, k: int, kind: str) -> ToolReply:
    captions, ranking = _index_captions(video, clip_ids, kind)
    best = [captions[i] for i in ranking.order(query)[:k]]
    lines = [_line(*one, name_clip=len(clip_ids) > 1) for one in best]
    told = [[clip_id, one.start_s, one.end_s, one.text] for clip_id, one in best]
    details = {"n_captions": len(best), "captions": told}
    return ToolReply("\n".join(lines) or EMPTY[kind], details=details)


@lru_cache(maxsize=4096)
def _reply_about(video: Video, spans: tuple[Span, ...], query: str, k: int, kind: str) -> ToolReply:
    """The same for stretches, with times in the whole video."""
    known = descriptions(video) if kind == CAPTIONS else read_in_frames(video)
    there = within(known, spans)
    best = [there[i] for i in Ranking([one.text for one in there]).order(query)[:k]]
    lines = [f"[{clock(one.start_s or 0)}-{clock(one.end_s or 0)}] {one.text}" for one in best]
    return ToolReply("\n".join(lines) or EMPTY[kind], details={"n_captions": len(best)})


@lru_cache(maxsize=4096)
def _index_captions(
    video: Video, clip_ids: tuple[str, ...], kind: str
) -> tuple[list[Placed], Ranking]:
    captions = [(c, caption) for c in clip_ids for caption in described(video[c], kind)]
    return captions, Ranking([caption.text for _, caption in captions])


def _line(clip_id: str, caption: TimedText, *, name_clip: bool) -> str:
    parts = [clip_id] if name_clip else []
    if caption.start_s is not None:
        end_s = caption.start_s if caption.end_s is None else caption.end_s
        parts.append(f"{clock(caption.start_s)}-{clock(end_s)}")
    return f"[{' '.join(parts)}] {caption.text}" if parts else caption.text
