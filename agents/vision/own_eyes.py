"""`self`: there is no vision agent, because the master sees the frames itself (`frames=N`)."""

from __future__ import annotations

from longvideo_env.errors import SpecError
from longvideo_env.tools.tool import ToolCall, ToolReply

SAID = "The frames come with this message."


class OwnEyes:
    """Returns only the stretch that was asked about, without a description. Spec: `self`.

    The frames of that stretch are shown with the reply.
    """

    immediate = True

    def __init__(self, argument: str = "") -> None:
        if argument:
            raise SpecError(f"vision=self takes no argument, got {argument!r}.")

    async def look(self, request: ToolCall, /) -> ToolReply:
        """The stretch asked about: that of the request, or the clips in view."""
        spans = request.spans or tuple(map(request.video.clip_times, request.view))
        return ToolReply(SAID, spans=spans)
