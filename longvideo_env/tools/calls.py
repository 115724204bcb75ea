"""What a tool is asked, and what it gives: plain records, without gold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from longvideo_env.schema import Question, TimedText, Video
from longvideo_env.seeding import derive_seed
from longvideo_env.spans import Span


class ToolCall:
    """What a tool is asked for. It holds no gold.

    Args:
        question: The question.
        video: Its video.
        tool: The tool's name.
        arguments: What the model wrote, checked against the tool's schema.
        view: Ids of the clips that the master sees now; empty before the first.
        visited: Ids of every clip shown so far, in order.
        seed: For tools that draw at random: a number, or what it is derived from when it is read.
        spans: The stretches of the video that it asks for, in seconds of the whole video; empty
            for a tool that asks about the clips in view. `view` then holds the clips they touch.
        query: What it asks, where that is not the argument `query`.

    Attributes:
        agent: The agent behind the tool, if it has one.
        boxes: Labels of boxes; empty unless `unsafe_boxes` is set, because they name words of the
            right answer.
        seed_was_read: Whether the tool took the seed: its reply then depends on it.
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
        """For tools that draw at random."""
        self.seed_was_read = True
        return self.given_seed

    @property
    def given_seed(self) -> int:
        """The same, for whoever only notes it down."""
        if not isinstance(self._seed, int):
            self._seed = derive_seed(*self._seed)
        return self._seed

    @property
    def query(self) -> str | None:
        """What is asked, mostly the argument `query`; None where the model wrote none."""
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
    """What a tool gives back: text, a new view, or both.

    Attributes:
        text: Words for the master to read.
        view: What the view is moved to: the id of a clip, around which the game's window is laid,
            or a stretch `(start_s, end_s)` of the whole video. None leaves it.
        details: Plain values worth keeping: scores, tokens used, frames sent.
        spans: The stretches of the whole video that the text is about.
        lines: What the text says as fields, with times in the whole video, for scripts.
    """

    text: str = ""
    view: str | Span | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    lines: tuple[TimedText, ...] = ()

    def kept(self) -> dict[str, Any]:
        """All but the details as plain values, as `from_record` reads them."""
        lines = [[line.text, line.start_s, line.end_s] for line in self.lines]
        return {
            "text": self.text,
            "view": list(self.view) if isinstance(self.view, tuple) else self.view,
            **({"spans": [list(span) for span in self.spans]} if self.spans else {}),
            **({"lines": lines} if lines else {}),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ToolReply:
        """The reply of a `ToolResult.record`, which leaves out `lines`, or of a recording."""
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
        """The stretches that it shows or speaks of."""
        return (*self.spans, self.view) if isinstance(self.view, tuple) else self.spans

    @property
    def clip(self) -> str | None:
        """The clip that the view is moved to; None where it is a stretch or stays."""
        return self.view if isinstance(self.view, str) else None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The outcome of a call: a reply, or an error.

    Attributes:
        tool: The tool's name.
        agent: Spec of what did the work.
        reply: What it gave; None if it failed.
        error: Why it failed; None if it did not.
        latency_s: Wall-clock seconds that the call took.
    """

    tool: str
    agent: str
    reply: ToolReply | None = None
    error: str | None = None
    latency_s: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the tool did its work."""
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
