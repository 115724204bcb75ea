"""`openai:MODEL[@ENDPOINT]` as grounding agent: a model reads the video's subtitles.

It gets every clip that was not visited, with its subtitles, and names one. If the name is not one
of them, it is told so once and asked again. If a video does not fit the model's context, BM25
selects clips, and the result says so.

Options: `temperature`, `max_tokens`, `context` (tokens that the subtitles may take).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from agents.api.agent import ApiAgent, after_thinking, used
from agents.api.usage import Usage
from agents.grounding.offline import rank_clips
from longvideo_env.errors import ContextTooLongError, EndpointError, ToolError
from longvideo_env.game.protocol.base import option_label
from longvideo_env.records.identity import video_digest
from longvideo_env.schema import Video
from longvideo_env.tools.tool import ToolCall, ToolReply

PROMPT_VERSION = 1
CHARACTERS_A_TOKEN = 3.5
"""Characters per token: English subtitles have slightly more, clip ids fewer."""

SMALLEST_CONTEXT = 500

SYSTEM = (
    "You find the clip of a long video that helps most to answer a question. You are given the "
    "subtitles of its clips, in order of time, each between tags of its id. Think briefly if you "
    "must, and end with the id of exactly one of these clips, as in <clip>ID</clip>."
)
_CLIP = re.compile(r"<clip>\s*(.*?)\s*</clip>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class GroundingOptions:
    """Options of a spec. `context`: maximum tokens for subtitles."""

    temperature: float = 0.0
    max_tokens: int = 1024
    context: int = 100_000


class ApiGrounding(ApiAgent):
    """See the module's docstring. Spec: `openai:MODEL[@ENDPOINT][,name=value...]`."""

    role = "grounding"

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        self.options = self._spec.read(GroundingOptions)

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return the clip named by the model.

        Raises:
            ToolError: The endpoint failed, or the model twice named no clip of the video.
        """
        clips = request.unvisited or request.video.clip_ids
        if len(clips) == 1:
            return ToolReply(clips[0], details={"only_clip_left": True})
        budget: float = self.options.context
        while True:
            shown = shortlist(request, clips, budget)
            try:
                return await self._ask(request, clips, shown)
            except ContextTooLongError as error:
                budget = min(budget, _tokens(request.video, shown)) // 2
                if budget < SMALLEST_CONTEXT:
                    raise ToolError(str(error)) from error
            except EndpointError as error:
                raise ToolError(str(error)) from error

    def record_key(self, request: ToolCall, /) -> Mapping[str, Any]:
        """The key of the reply. Without a seed, since one reply serves all samples."""
        return {
            "agent": "openai",
            "kind": "grounding",
            "model": self.model,
            "prompt_version": PROMPT_VERSION,
            "video_id": request.video.video_id,
            "video": video_digest(request.video),
            "question": request.question.text,
            "options": list(request.question.options),
            "query": request.query,
            "visited": sorted(request.visited),
            "sampling": asdict(self.options),
        }

    async def _ask(
        self, request: ToolCall, clips: Sequence[str], shown: Sequence[str]
    ) -> ToolReply:
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": prompt(request, shown)},
        ]
        details: dict[str, Any] = {}
        if len(shown) < len(clips):
            details["shortlisted"] = {"shown": len(shown), "of": len(clips)}
        usage = Usage()
        for repair in (False, True):
            reply = await self._client.chat(
                self.model, messages, role=self.role, extra=self._sampling(request)
            )
            usage += reply.usage
            found = named_clip(reply.text, clips)
            if found is not None:
                if repair:
                    details["repaired"] = True
                return ToolReply(found, details={**details, **used(self.model, usage)})
            messages += [
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": _repair(shown)},
            ]
        raise ToolError(
            f"{self.model} twice named no unvisited clip of video {request.video.video_id!r}; the "
            f"end of its last reply: {reply.text[-100:]!r}."
        )

    def _sampling(self, request: ToolCall) -> dict[str, Any]:
        options = self.options
        sampling = {"temperature": options.temperature, "max_tokens": options.max_tokens}
        return sampling | ({"seed": request.seed} if options.temperature > 0 else {})


def prompt(request: ToolCall, shown: Sequence[str]) -> str:
    """The prompt: the question, the master's request, and the clips."""
    question = request.question
    options = [f"{option_label(i)}: {_harmless(o)}" for i, o in enumerate(question.options)]
    wanted = f"\nLook for: {_harmless(request.query)}" if request.query else ""
    blocks = "\n".join(subtitle_block(request.video, clip_id) for clip_id in shown)
    asked = "\n".join([f"Question: {_harmless(question.text)}", *options])
    return f"{asked}{wanted}\n\n{blocks}\n\nWhich clip? Answer with <clip>ID</clip>."


def shortlist(request: ToolCall, clips: Sequence[str], context: float) -> tuple[str, ...]:
    """The clips that fit into `context` tokens, in order of time: all, or the best by BM25."""
    if _tokens(request.video, clips) <= context:
        return tuple(clips)
    question = request.question
    query = request.query or " ".join([question.text, *question.options])
    allowed, left = set(clips), context
    kept: set[str] = set()
    for clip_id in rank_clips(request.video, query):
        cost = _tokens(request.video, [clip_id])
        if clip_id in allowed and (cost <= left or not kept):
            kept.add(clip_id)
            left -= cost
    return tuple(clip_id for clip_id in clips if clip_id in kept)


def named_clip(text: str, clips: Sequence[str]) -> str | None:
    """The clip that a reply names: the last one in tags, or the only one mentioned."""
    said = after_thinking(text)
    tagged = _CLIP.findall(said)
    if tagged:
        name = tagged[-1].strip(" \t\n<>[]`'\"/")
        if name in clips:
            return str(name)
        # Models shorten ids with a common prefix: s05e02_seg02_clip_00 becomes seg02_clip_00.
        ending = [clip_id for clip_id in clips if name and clip_id.endswith(f"_{name}")]
        return ending[0] if len(ending) == 1 else None
    mentioned = [c for c in clips if re.search(rf"(?<![\w-]){re.escape(c)}(?![\w-])", said)]
    return mentioned[0] if len(mentioned) == 1 else None


def _repair(shown: Sequence[str]) -> str:
    return (
        "That is not one of the clips given to you. Answer with exactly one of these, and nothing "
        f"else, as in <clip>{shown[0]}</clip>: {', '.join(shown)}"
    )


def _tokens(video: Video, clips: Sequence[str]) -> float:
    return sum(len(subtitle_block(video, clip_id)) + 1 for clip_id in clips) / CHARACTERS_A_TOKEN


def subtitle_block(video: Video, clip_id: str) -> str:
    """A clip's subtitles inside tags with its id."""
    return _blocks(video)[clip_id]


@lru_cache(maxsize=2048)
def _blocks(video: Video) -> Mapping[str, str]:
    """Each clip's subtitles inside tags with its id."""
    blocks = {}
    for clip in video.clips:
        lines = " ".join(_harmless(line.text) for line in clip.subtitles) or "(no subtitles)"
        blocks[clip.clip_id] = f"<{clip.clip_id}>{lines}</{clip.clip_id}>"
    return blocks


def _harmless(text: str) -> str:
    """Text from outside with tags escaped."""
    return text.replace("<", "&lt;")
