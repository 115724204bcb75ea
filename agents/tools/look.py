"""`look`: the vision agent says what the frames of the view show."""

from __future__ import annotations

from longvideo_env.errors import ToolError
from longvideo_env.tools.tool import ToolCall, ToolReply, tool


@tool(tags={"reference": "search", "paper": "visual_query"}, role="vision")
async def look(request: ToolCall, query: str) -> ToolReply:
    """Asks the vision agent what the frames of the current clips show.

    Args:
        query: what you want to know
    """
    reply: ToolReply = await request.agent.look(request)
    if not isinstance(reply.text, str) or not reply.text.strip():
        raise ToolError(f"the vision agent returned {reply.text!r:.80}, not a description.")
    return reply
