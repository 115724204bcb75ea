"""`self`: no agent looks, because the master sees the frames itself (`frames=N`)."""

from __future__ import annotations

from longvideo_env.errors import SpecError
from longvideo_env.tools.tool import ToolCall, ToolReply

SAID = "The frames come with this message."


class OwnEyes:
    """Says nothing of what there is to see, and which stretch it was asked about. Spec: `self`.

    The frames of that stretch come with the reply.
    """

    immediate = True

    def __init__(self, argument: str = "") -> None:
        if argument:
            raise SpecError(f"expected vision=self without more, got {argument!r}.")

    async def look(self, request: ToolCall, /) -> ToolReply:
        """The stretch that is asked about: that of the request, or the clips in view."""
        spans = request.spans or tuple(map(request.video.clip_times, request.view))
        return ToolReply(SAID, spans=spans)
