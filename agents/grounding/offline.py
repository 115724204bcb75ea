"""Grounding agents that need no network: `bm25` and `random`.

`oracle` is in the core, because only it gets gold.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from agents.ranking import Ranking
from longvideo_env.errors import SpecError
from longvideo_env.schema import Video
from longvideo_env.tools.tool import ToolCall, ToolReply

_INDEXES = 2048
"""Cache size for indexes of videos. LongTVQA has 925 videos."""

_QUERIES = 16384
"""Cache size for rankings, each with about 25 references."""


class BM25Grounding:
    """Ranks the lines of the video's clips against the query by BM25: dialogue and all layers.

    The query is the master's request, or else the question and its options. A visited clip is only
    named if all clips were visited. Ties go to the earlier clip, for example if the query shares no
    word with any clip.
    """

    immediate = True

    def __init__(self, argument: str = "") -> None:
        _no_argument("bm25", argument)

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return the best clip that was not visited."""
        question = request.question
        query = request.query or " ".join([question.text, *question.options])
        ranked = rank_clips(request.video, query)
        return ToolReply(next((c for c in ranked if c not in request.visited), ranked[0]))


class RandomGrounding:
    """Names a random unvisited clip: the floor for grounding agents."""

    immediate = True

    def __init__(self, argument: str = "") -> None:
        _no_argument("random", argument)

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return a clip drawn with the request's seed."""
        clips = request.unvisited or request.video.clip_ids
        rng = np.random.default_rng(request.seed)
        return ToolReply(clips[int(rng.integers(len(clips)))])


# Cached, because every rollout of a group and every epoch asks the same question.
@lru_cache(maxsize=_QUERIES)
def rank_clips(video: Video, query: str) -> tuple[str, ...]:
    """All clips of a video, ranked by BM25 of their lines."""
    return tuple(video.clip_ids[i] for i in clip_index(video).order(query))


@lru_cache(maxsize=_INDEXES)
def clip_index(video: Video) -> Ranking:
    """The index of a video's clips: dialogue and all layers."""
    return Ranking([" ".join(line.text for line in clip.searched) for clip in video.clips])


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise SpecError(f"grounding agent {name!r} takes no argument, got {name}:{argument}.")
