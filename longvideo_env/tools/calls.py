"""Tool calls and replies: plain records without gold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from longvideo_env.schema import Question, TimedText, Video
from longvideo_env.seeding import derive_seed
from longvideo_env.spans import Span


class ToolCall:
    """A call of a tool. Contains no gold.

    Args:
        question: The question.
        video: Its video.
        tool: The tool's name.
        arguments: The arguments, checked against the tool's schema.
        view: Ids of the clips in view. Empty before the first view.
        visited: Ids of all clips shown so far, in order.
        seed: Seed for random draws: a number, or the parts from which it is derived on first use.
        spans: The requested stretches, in seconds of the whole video. `view` then has the clips
            that they touch. Empty for tools about the clips in view.
        query: The query, if it is not the argument `query`.

    Attributes:
        agent: The agent behind the tool, or None.
        boxes: Labels of boxes. Empty unless `unsafe_boxes` is set, because they contain words of
            the right answer.
        seed_was_read: Whether the tool read the seed. Its reply then depends on it.
    """

    __slots__ = (
        *("question", "video", "tool", "arguments", "view", "visited", "_seed"),
        *("spans", "_query", "agent", "boxes", "seed_was_read"),
    )

    def __init__(
        self,
        question: Question,
        video: Video,
        tool: str = "",
        arguments: Mapping[str, Any] | None = None,
        view: tuple[str, ...] = (),
        visited: tuple[str, ...] = (),
        seed: int | tuple[int | str, ...] = 0,
        spans: tuple[Span, ...] = (),
        query: str | None = None,
    ) -> None:
        self.question = question
        self.video = video
        self.tool = tool
        self.arguments: Mapping[str, Any] = arguments or {}
        self.view = view
        self.visited = visited
        self._seed = seed
        self.spans = spans
        self._query = query
        self.agent: Any = None
        self.boxes: tuple[str, ...] = ()
        self.seed_was_read = False

    @property
    def seed(self) -> int:
        """Seed for random draws. Reading it is recorded in `seed_was_read`."""
        self.seed_was_read = True
        return self.given_seed

    @property
    def given_seed(self) -> int:
        """The seed, without marking it as read."""
        if not isinstance(self._seed, int):
            self._seed = derive_seed(*self._seed)
        return self._seed

    @property
    def query(self) -> str | None:
        """The query, usually the argument `query`. None if the model wrote none."""
        return self.arguments.get("query") if self._query is None else self._query

    @property
    def unvisited(self) -> tuple[str, ...]:
        """Ids of the clips not shown yet, in order."""
        visited = set(self.visited)
        return tuple(clip_id for clip_id in self.video.clip_ids if clip_id not in visited)

    def record(self) -> dict[str, Any]:
        """Plain values that identify the call; the seed only where the tool took it."""
        record: dict[str, Any] = {
            "tool": self.tool,
            "qid": self.question.qid,
            "video_id": self.video.video_id,
            "arguments": dict(self.arguments),
            "view": list(self.view),
            "visited": list(self.visited),
            "seed": self.seed if self.seed_was_read else None,
        }
        if self.spans:
            record["spans"] = [list(span) for span in self.spans]
        if self.boxes:
            record |= {"boxes": list(self.boxes), "leaky": True}
        return record


@dataclass(frozen=True, slots=True)
class ToolReply:
    """A tool's reply: text, a new view, or both.

    Attributes:
        text: Text for the master.
        view: The new view: the id of a clip, around which the game puts its window, or a stretch
            `(start_s, end_s)` of the whole video. None keeps the view.
        details: Plain values for the record: scores, tokens used, frames sent.
        spans: The stretches of the whole video that the text is about.
        lines: The text's lines as fields, with times in the whole video.
    """

    text: str = ""
    view: str | Span | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    lines: tuple[TimedText, ...] = ()

    def kept(self) -> dict[str, Any]:
        """Everything except the details, as plain values for `from_record`."""
        lines = [[line.text, line.start_s, line.end_s] for line in self.lines]
        return {
            "text": self.text,
            "view": list(self.view) if isinstance(self.view, tuple) else self.view,
            **({"spans": [list(span) for span in self.spans]} if self.spans else {}),
            **({"lines": lines} if lines else {}),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ToolReply:
        """Rebuild a reply from `ToolResult.record` (which has no `lines`) or from a recording."""
        view = record.get("view")
        return cls(
            record.get("text", ""),
            tuple(view) if isinstance(view, list) else view,
            record.get("details", {}),
            tuple((start, end) for start, end in record.get("spans", ())),
            tuple(TimedText(*line) for line in record.get("lines", ())),
        )

    @property
    def shown(self) -> tuple[Span, ...]:
        """The stretches that it shows or describes."""
        return (*self.spans, self.view) if isinstance(self.view, tuple) else self.spans

    @property
    def clip(self) -> str | None:
        """The clip of the new view. None if the view is a stretch or unchanged."""
        return self.view if isinstance(self.view, str) else None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The outcome of a call: a reply, or an error.

    Attributes:
        tool: The tool's name.
        agent: Spec of the agent or tool that did the work.
        reply: The reply. None if the call failed.
        error: Why the call failed, or None.
        latency_s: Wall-clock seconds of the call.
    """

    tool: str
    agent: str
    reply: ToolReply | None = None
    error: str | None = None
    latency_s: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.error is None

    def record(self) -> dict[str, Any]:
        """Plain values for the trajectory."""
        reply = self.reply or ToolReply()
        record: dict[str, Any] = {
            "agent": self.agent,
            "text": reply.text,
            "view": list(reply.view) if isinstance(reply.view, tuple) else reply.view,
            "error": self.error,
            "details": dict(reply.details),
        }
        if reply.spans:
            record["spans"] = [list(span) for span in reply.spans]
        return record
