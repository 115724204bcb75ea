"""`openai:MODEL[@ENDPOINT]` as vision agent: a model sees frames of the evidence window.

Frames are spread evenly over all frames of the window's clips.

Options: `frames` (number), `max_side` (longest side in pixels; larger frames are scaled down),
`detail` (`low`, `high`, `auto`), `temperature`, `max_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agents.api.agent import ApiAgent, after_thinking, used
from agents.api.images import image_part
from agents.vision.picking import PlacedFrame, frames_in_view
from longvideo_env.errors import EndpointError, SpecError, ToolError
from longvideo_env.schema import Video
from longvideo_env.tools.tool import ToolCall, ToolReply

PROMPT_VERSION = 1

SYSTEM = (
    "You look at frames of a video for somebody who cannot see them. Say what the frames show that "
    "bears on the request: people, objects, actions, places, text, in plain sentences, with the "
    "time where it matters. Say so if the frames do not show it. Do not guess."
)


@dataclass(frozen=True)
class VisionOptions:
    """Options of a spec."""

    frames: int = 16
    max_side: int = 0
    detail: str = "auto"
    temperature: float = 0.0
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if self.frames < 1 or self.max_side < 0:
            raise SpecError(
                f"frames must be at least 1 and max_side at least 0 (no limit), got {self.frames} "
                f"and {self.max_side}."
            )
        if self.detail not in ("low", "high", "auto"):
            raise SpecError(f"expected detail=low, high or auto, got {self.detail!r}.")


class ApiVision(ApiAgent):
    """See the module's docstring. Spec: `openai:MODEL[@ENDPOINT][,name=value...]`."""

    role = "vision"

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        self.options = self._spec.read(VisionOptions)

    async def look(self, request: ToolCall, /) -> ToolReply:
        """Return the model's description of the frames.

        Raises:
            ToolError: There are no frames, or the endpoint failed.
        """
        options = self.options
        frames = self._frames(request)
        parts = [image_part(f.frame.path, options.max_side, options.detail).part for f in frames]
        content = [{"type": "text", "text": prompt(request, frames)}, *parts]
        sampling: dict[str, Any] = {
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
        }
        if options.temperature > 0:
            sampling["seed"] = request.seed
        try:
            reply = await self._client.chat(
                self.model,
                [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}],
                role=self.role,
                extra=sampling,
                n_images=len(frames),
            )
        except EndpointError as error:
            raise ToolError(str(error)) from error
        details = {
            "n_frames": len(frames),
            "frames": [_named(request.video, frame) for frame in frames],
            **used(self.model, reply.usage),
        }
        return ToolReply(after_thinking(reply.text), details=details)

    def record_key(self, request: ToolCall, /) -> Mapping[str, Any]:
        """The key of the reply, including the frames' bytes. Without a seed, as for grounding."""
        options = self.options
        frames = self._frames(request)
        return {
            "agent": "openai",
            "kind": "vision",
            "model": self.model,
            "prompt_version": PROMPT_VERSION,
            "clip_ids": list(request.view),
            "frames": [
                image_part(f.frame.path, options.max_side, options.detail).digest for f in frames
            ],
            "query": request.query,
            "sampling": asdict(options),
            **({"boxes": list(request.boxes), "leaky": True} if request.boxes else {}),
        }

    def _frames(self, request: ToolCall) -> tuple[PlacedFrame, ...]:
        return frames_in_view(request, self.options.frames)


def prompt(request: ToolCall, frames: Sequence[PlacedFrame]) -> str:
    """The prompt: the number and times of the frames sent, and the request."""
    several = len(request.view) > 1
    times = ", ".join(
        f"{f.clip_id} {f.frame.time_s:.1f} s" if several else f"{f.frame.time_s:.1f} s"
        for f in frames
    )
    count = f"{len(frames)} frame{'s' * (len(frames) > 1)}"
    lines = [f"You see {count}, in order of time, at {times}.", f"Request: {request.query}"]
    if request.boxes:
        lines.append(f"Boxes in these frames are labelled: {', '.join(request.boxes)}")
    return "\n".join(lines)


def _named(video: Video, placed: PlacedFrame) -> dict[str, Any]:
    path, root = placed.frame.path.as_posix(), video.frames_root
    if root is not None:
        path = path.removeprefix(f"{root.as_posix()}/")
    return {"path": path, "clip_id": placed.clip_id, "time_s": round(placed.frame.time_s, 3)}
