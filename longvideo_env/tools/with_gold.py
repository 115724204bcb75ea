"""The only two agents that see gold: the oracle, and boxes as in the published code.

Only `registry.build_toolbox` builds them. Results made with them are marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from longvideo_env.tools.tool import ToolCall, ToolReply


class OracleGrounding:
    """Names the gold clip: an upper bound for grounding agents, not a fair result.

    It marks every summary as `oracle`. If the gold clip is visited or unknown, it names the first
    clip not yet visited.

    Args:
        gold_clips: `str(qid)` -> gold clip id.
    """

    immediate = True

    def __init__(self, gold_clips: Mapping[str, str]) -> None:
        self._gold_clips = gold_clips

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return the gold clip, or the first clip not visited."""
        gold = self._gold_clips.get(str(request.question.qid))
        if gold is not None and gold not in request.visited:
            return ToolReply(gold)
        left = request.unvisited
        return ToolReply(left[0] if left else request.video.clip_ids[0])


class UnsafeBoxes:
    """Shows the boxes of the gold clip to a vision agent, as the published code does.

    The boxes contain words of the question and of the right answer, so results made with them are
    not a valid accuracy. All output is marked `leaky`.

    Args:
        agent: The vision agent.
        labels: `str(qid)` -> the clip of the boxes, and their distinct labels.
    """

    def __init__(self, agent: Any, labels: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
        self.agent = agent
        self.immediate = agent.immediate
        self._labels = labels

    async def look(self, request: ToolCall, /) -> ToolReply:
        """Ask the agent, with the boxes if their clip is in view."""
        self.add_boxes(request)
        reply: ToolReply = await self.agent.look(request)
        return replace(reply, details={**reply.details, "leaky": True})

    def add_boxes(self, request: ToolCall) -> None:
        """Add the boxes to a request, if their clip is in view."""
        clip_id, labels = self._labels.get(str(request.question.qid), ("", ()))
        if clip_id in request.view:
            request.boxes = labels
