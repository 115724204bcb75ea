"""The two agents that are given gold, in one place: an upper bound, and what published code does.

Both are built by `registry.build_toolbox` alone, and mark whatever is written with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from longvideo_env.tools.tool import ToolCall, ToolReply


class OracleGrounding:
    """Names the gold clip: an upper bound for grounding agents, never a fair one.

    It marks every summary as `oracle`. Once the gold clip is visited, or where it is unknown, it
    names the first clip not yet visited.

    Args:
        gold_clips: `str(qid)` to gold clip id.
    """

    immediate = True

    def __init__(self, gold_clips: Mapping[str, str]) -> None:
        self._gold_clips = gold_clips

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return the gold clip, or the first one not visited."""
        gold = self._gold_clips.get(str(request.question.qid))
        if gold is not None and gold not in request.visited:
            return ToolReply(gold)
        left = request.unvisited
        return ToolReply(left[0] if left else request.video.clip_ids[0])


class UnsafeBoxes:
    """Hands the boxes of the gold clip to a vision agent, as the published code does.

    They name words of the question and of the right answer, so that what is measured with them is
    no accuracy: everything that is then written says `leaky`.

    Args:
        agent: The vision agent.
        labels: `str(qid)` to the clip that the boxes are of, and their distinct labels.
    """

    def __init__(self, agent: Any, labels: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
        self.agent = agent
        self.immediate = agent.immediate
        self._labels = labels

    async def look(self, request: ToolCall, /) -> ToolReply:
        """Ask the agent, with the boxes if their clip is looked at."""
        self.add_boxes(request)
        reply: ToolReply = await self.agent.look(request)
        return replace(reply, details={**reply.details, "leaky": True})

    def add_boxes(self, request: ToolCall) -> None:
        """Put the boxes into a request, if their clip is looked at."""
        clip_id, labels = self._labels.get(str(request.question.qid), ("", ()))
        if clip_id in request.view:
            request.boxes = labels
