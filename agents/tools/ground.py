"""`ground`: the grounding agent moves the view to another clip of the video."""

from __future__ import annotations

from longvideo_env.errors import ToolError
from longvideo_env.tools.tool import ToolCall, ToolReply, tool


def _all_visited(request: ToolCall) -> str | None:
    return None if len(request.visited) < len(request.video.clips) else "all_visited"


@tool(
    tags={"reference": "request_grounding", "paper": "request_grounding"},
    role="grounding",
    moves=True,
    refuse=_all_visited,
)
async def ground(request: ToolCall, query: str | None = None) -> ToolReply:
    """Asks the grounding agent for another part of the video.

    Args:
        query: what to look for
    """
    reply: ToolReply = await request.agent.ground(request)
    clip_id = reply.text
    if not isinstance(clip_id, str) or clip_id not in request.video:
        raise ToolError(
            f"the grounding agent named {clip_id!r:.80}, which is not a clip of video "
            f"{request.video.video_id!r}."
        )
    if clip_id in request.visited and request.unvisited:
        raise ToolError(f"the grounding agent named {clip_id!r}, which was visited already.")
    return ToolReply(view=clip_id, details=reply.details)
