"""Grounding by single lines: `lines`, or `lines:MODEL` with an embedding model.

A clip's score is that of its best line (see `agents.evidence`). This finds the one line that
answers. `bm25` finds the clip that is about the whole query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.evidence import film_lines
from agents.grounding.meaning import query_of
from agents.perception.embeddings import Embedder, open_embedder
from longvideo_env.records.identity import short_hash, video_digest
from longvideo_env.tools.tool import ToolCall, ToolReply


class LineGrounding:
    """Names the clip of the best line. Spec: `lines` or `lines:MODEL`.

    The query is the master's request, or else the question without options, because words of wrong
    options would find wrong lines.
    """

    immediate = True

    def __init__(self, argument: str = "") -> None:
        self._embedder: Embedder | None = open_embedder(argument) if argument else None

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return the clip of the best line among those that were not visited."""
        video = request.video
        left = request.unvisited or video.clip_ids
        best = film_lines(video, self._embedder).best(_query(request), left)
        return ToolReply(best[0].clip_id if best else left[0])

    def record_key(self, request: ToolCall, /) -> Mapping[str, Any]:
        """The key of the reply."""
        return {
            "agent": "lines",
            "model": self._embedder.digest if self._embedder else None,
            "query": short_hash(_query(request)),
            "visited": sorted(request.visited),
            "video": video_digest(request.video),
        }


def _query(request: ToolCall) -> str:
    return query_of(request) if request.query else request.question.text
