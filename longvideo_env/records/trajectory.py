"""Trajectories: one played episode, saved as one line of JSON.

Joining the segments gives exactly what the model saw and wrote. `Segment.sampled` is the loss mask.
It is never inferred from roles or tags.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from longvideo_env.errors import MissingExtraError, TrajectoryError
from longvideo_env.schema import FrameRef, Qid

SCHEMA_VERSION = 2

Status: TypeAlias = Literal["answered", "out_of_turns", "out_of_context", "out_of_budget", "failed"]
"""How an episode ended. `failed`: a tool or the policy failed; it has no reward."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of what the model saw or wrote.

    Attributes:
        role: `system`, `user` or `assistant`; `prompt` if a chat template rendered several messages
            into one.
        text: Its text.
        sampled: True if the policy wrote it. Only these tokens carry a gradient.
        turn: The turn that it belongs to. 0 is the first prompt.
        token_ids: Its tokens, or None for a policy without tokens.
        logprobs: Log-probability of each token, for sampled segments if known.
        prefix: What the chat template wrote before the reply, such as `<think>`. It is part of the
            previous segment, and is parsed as part of the reply.
        message: A sampled reply as an assistant message in the OpenAI format, if function calls
            were parsed from its tokens.
        frames: The frames shown with it, after the segment's text. If there are tokens, `token_ids`
            contains the image tokens.
    """

    role: str
    text: str
    sampled: bool = False
    turn: int = 0
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    prefix: str = ""
    message: Mapping[str, Any] | None = None
    frames: tuple[FrameRef, ...] = ()

    @property
    def written(self) -> str:
        """The text that the protocol parsed."""
        return written_as(self.message, self.prefix + self.text)


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What happened in one turn, in plain values.

    Attributes:
        turn: Number of the turn, from 1.
        action: A tool's name, or `answer`; None if the reply was malformed.
        argument: The text written for it: a query, JSON, or the option's label.
        shown: Clips whose lines were shown.
        seen: Stretches that were shown or described, if it asked for stretches: `(clip_id, start_s,
            end_s)` in seconds of the clip.
        moves: Whether it asked for other clips, not for more about those in view.
        malformed: The kind of fault, or None.
        request: The tool call, if one was made.
        result: The call's result: `{"agent", "text", "view", "error", "details"}`.
        finish: Why the reply ended (see `policy.FinishReason`).
        usage: Tokens, requests and money of the reply, if the policy reports them.
        cost_usd: Cost of reply and tool together, as far as known.
    """

    turn: int
    action: str | None = None
    argument: str | None = None
    malformed: str | None = None
    request: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    finish: str | None = None
    usage: Mapping[str, Any] | None = None
    cost_usd: float | None = None
    moves: bool = False
    shown: tuple[str, ...] = ()
    seen: tuple[tuple[str, float, float], ...] = ()

    @property
    def looks(self) -> bool:
        """Whether it asked a tool about the clips in view."""
        return self.action not in (None, "answer") and not self.moves


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge's verdict on an answer.

    Attributes:
        judge: The judge's spec.
        right: The verdict of the majority of votes. None if there is no verdict.
        votes: Each vote: 1 right, 0 wrong, None if the reply had no verdict.
        error: Why there is no verdict.
        usage: Tokens, requests and money of each vote.
    """

    judge: str
    right: bool | None = None
    votes: tuple[int | None, ...] = ()
    error: str | None = None
    usage: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds by activity. Ignored in comparisons."""

    model_s: float = 0.0
    tools_s: float = 0.0
    env_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One played episode.

    Attributes:
        qid: The question's id.
        video_id: The question's video.
        question: The question's text.
        options: The options, in the order shown.
        show: The show, or in `mini` the kind of question, if the source gives it.
        policy: Spec of the policy.
        sample: Index of this play among several plays of the same question, from 0.
        seed: The episode's seed.
        status: How it ended.
        error: What failed, or None.
        n_options: Number of options shown.
        option_order: Original index of each shown option, if options were shuffled.
        choice: Index of the option chosen, as shown, or None.
        opened_at: Clips shown at the start.
        visited: Clips shown, in order, without repeats.
        turns: A record of each turn.
        segments: What the model saw and wrote.
        protocol: The protocol of the actions, such as `tags` or `functions`.
        first: Call and result of the grounding that chose the first clip, as in a turn.
        correct: Whether the answer is right. None if there is no gold answer or the episode failed.
        grounded: Whether the gold clip was visited. None if there is no gold clip.
        grounded_first: Whether the gold clip was shown at the start.
        reward: Weighted sum of the terms. None if the episode failed, has no gold answer, or a term
            raised.
        reward_terms: Unweighted value of each reward term.
        reward_error: The term that raised, with its error.
        kind: Kind of the question (see `longvideo_env.datasets.kinds`).
        leaky: Whether agents were shown boxes (`unsafe_boxes`), which contain words of the answer.
        ask: `words` or `when`, if the run asked that way (`EnvConfig.ask`).
        answer_scores: Scores of an answer without options: `exact_match` and `token_f1`, or `iou`
            and `recall`.
        judged: A judge's verdict on the answer.
        frames: For a master that sees: numbers of frames `shown`, of files `unreadable` and
            skipped, and of views without frames (`views_without`).
        seen_s: Seconds of the video that were shown or described. Overlaps count once.
        timings: Wall-clock seconds by activity.
        schema_version: Version of this record's format.
    """

    qid: Qid
    video_id: str
    policy: str
    sample: int
    seed: int
    status: Status
    n_options: int
    turns: tuple[TurnRecord, ...]
    segments: tuple[Segment, ...]
    question: str = ""
    options: tuple[str, ...] = ()
    show: str | None = None
    opened_at: tuple[str, ...] = ()
    visited: tuple[str, ...] = ()
    choice: int | None = None
    option_order: tuple[int, ...] | None = None
    error: str | None = None
    first: TurnRecord | None = None
    correct: bool | None = None
    grounded: bool | None = None
    grounded_first: bool | None = None
    reward: float | None = None
    reward_terms: Mapping[str, float] = field(default_factory=dict)
    reward_error: str | None = None
    kind: str | None = None
    leaky: bool = False
    protocol: str = "tags"
    ask: str | None = None
    answer_scores: Mapping[str, float] = field(default_factory=dict)
    judged: Judged | None = None
    frames: Mapping[str, int] = field(default_factory=dict)
    seen_s: float | None = field(default=None, compare=False)
    timings: Timings = field(default_factory=Timings, compare=False)
    schema_version: int = SCHEMA_VERSION

    @property
    def said(self) -> str | None:
        """The answer to a question without options: free text, or a stretch of time."""
        if self.options or self.status != "answered" or not self.turns:
            return None
        return self.turns[-1].argument

    @property
    def n_turns(self) -> int:
        """Number of turns played."""
        return len(self.turns)

    def to_json(self, *, timings: bool = True) -> str:
        """One line of JSON.

        Args:
            timings: False leaves out timings, so that the same seed, config and tool calls give the
                same bytes.
        """
        record = _shallow(self)
        record["turns"] = [_turn_record(turn) for turn in self.turns]
        record["segments"] = [_without_defaults(segment) for segment in self.segments]
        if self.protocol == "tags":
            del record["protocol"]
        for name in ("ask", "answer_scores", "judged", "frames"):
            if not record[name]:
                del record[name]
        if self.seen_s is None:
            del record["seen_s"]
        if self.judged is not None:
            record["judged"] = _shallow(self.judged)
        record["first"] = None if self.first is None else _turn_record(self.first)
        record["timings"] = _shallow(self.timings)
        if not timings:
            del record["timings"]
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Trajectory:
        """Read a line that `to_json` wrote.

        Raises:
            TrajectoryError: The line is incomplete, or has another schema version.
        """
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TrajectoryError(
                f"expected one JSON object, got a line that is incomplete or not JSON ({error})."
            ) from error
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA_VERSION:
            raise TrajectoryError(
                f"expected a trajectory of schema version {SCHEMA_VERSION}, got {version!r}. "
                "Fix: read the file with the release that wrote it."
            )
        record.pop("rollout", None)  # added by training runs
        try:
            return _from_record(cls, record)
        except (TypeError, KeyError, AttributeError) as error:
            raise TrajectoryError(
                f"not a trajectory of schema {SCHEMA_VERSION}: {error}"
            ) from error


def read_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """Read trajectories from a JSON Lines file, one at a time. A name ending in `.zst` is unpacked.

    Raises:
        TrajectoryError: A line cannot be read. The message names file and line.
        MissingExtraError: The file is compressed, and zstandard is not installed.
    """
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield Trajectory.from_json(line)
        except TrajectoryError as error:
            raise TrajectoryError(f"{path}, line {number}: {error}") from error


def read_lines(path: str | Path) -> Iterator[str]:
    """The lines of a text file. A name ending in `.zst` is unpacked with zstd.

    Raises:
        TrajectoryError: It is incomplete, or not compressed with zstd.
        MissingExtraError: It is compressed, and zstandard is not installed.
    """
    if Path(path).suffix != ".zst":
        with open(path, encoding="utf-8") as file:
            yield from file
        return
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("zstandard", "train") from error
    with open(path, "rb") as packed:
        # The file may contain several frames: each append adds one.
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        try:
            yield from io.TextIOWrapper(reader, encoding="utf-8")
        except (zstandard.ZstdError, UnicodeDecodeError) as error:
            raise TrajectoryError(
                f"{path}: it is incomplete, or not compressed with zstd: {error}"
            ) from error


def written_as(message: Mapping[str, Any] | None, text: str) -> str:
    """The text that a protocol parses: the message as JSON, or else the reply's text."""
    return text if message is None else json.dumps(message, ensure_ascii=False)


def _without_defaults(segment: Segment) -> dict[str, Any]:
    record = _shallow(segment)
    for name in ("prefix", "message"):
        if not record[name]:
            del record[name]
    if segment.frames:
        record["frames"] = [frame.record() for frame in segment.frames]
    else:
        del record["frames"]
    return record


def _turn_record(turn: TurnRecord) -> dict[str, Any]:
    record = _shallow(turn)
    if not turn.seen:
        del record["seen"]
    return record


def _shallow(record: Any) -> dict[str, Any]:
    # `dataclasses.asdict` copies every token id one by one; this keeps containers unchanged.
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _from_record(cls: type[Trajectory], record: dict[str, Any]) -> Trajectory:
    record["turns"] = tuple(_turn(turn) for turn in record["turns"])
    record["segments"] = tuple(_segment(segment) for segment in record["segments"])
    record["first"] = None if record["first"] is None else _turn(record["first"])
    record["timings"] = Timings(**record.get("timings", {}))
    for name in ("visited", "opened_at", "options"):
        record[name] = tuple(record.get(name, ()))
    if record.get("judged") is not None:
        judged = record["judged"]
        several = {name: tuple(judged.get(name, ())) for name in ("votes", "usage")}
        record["judged"] = Judged(**{**judged, **several})
    if record["option_order"] is not None:
        record["option_order"] = tuple(record["option_order"])
    return cls(**record)


def _turn(record: dict[str, Any]) -> TurnRecord:
    record["shown"] = tuple(record.get("shown", ()))
    record["seen"] = tuple((c, start, end) for c, start, end in record.get("seen", ()))
    return TurnRecord(**record)


def _segment(record: dict[str, Any]) -> Segment:
    if not isinstance(record["text"], str):
        raise TypeError(f"expected a segment's text, got {record['text']!r:.80}.")
    for name in ("token_ids", "logprobs"):
        if record[name] is not None:
            record[name] = tuple(record[name])
    record["frames"] = tuple(map(FrameRef.from_record, record.get("frames", ())))
    return Segment(**record)
