"""Trajectories: one played episode, saved as one line of JSON.

Joining the segments reproduces exactly what the model saw and wrote. `Segment.sampled` is the loss
mask; it is never inferred from roles or tags.
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
    """A stretch of what the model saw or wrote.

    Attributes:
        role: `system`, `user` or `assistant`; `prompt` where a chat template rendered several
            messages into one.
        text: Its text.
        sampled: True if the policy wrote it: only these tokens carry a gradient.
        turn: The turn that it belongs to; 0 is the first prompt.
        token_ids: Its tokens, or None for a policy without tokens.
        logprobs: A log-probability for each token, for sampled segments where known.
        prefix: What the chat template opened the reply with, such as `<think>`: it stands in the
            segment before, and belongs to the reply when it is read.
        message: A sampled reply as an assistant's message in the OpenAI form, where calls of
            functions were read off its tokens.
        frames: The frames that a master who sees was shown with it. Behind the segment's text;
            where there are tokens, these stand for them among the others.
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
        """What the protocol read."""
        return written_as(self.message, self.prefix + self.text)


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What happened in one turn, in plain values.

    Attributes:
        turn: Counted from 1.
        action: A tool's name, or `answer`; None if the reply was malformed.
        argument: What was written for it: a query, JSON, or the option's label.
        shown: Clips whose lines it showed.
        seen: Stretches that it showed or spoke of, where it asked for such: `(clip_id, start_s,
            end_s)` in seconds of the clip.
        moves: Whether it asked for other clips, rather than for more about these.
        malformed: The kind of mistake, if there was one.
        request: The tool request, if one was made.
        result: `{"agent", "text", "view", "error", "details"}` of its result.
        finish: Why the reply ended (see `policy.FinishReason`).
        usage: What the reply used, where the policy says so: tokens, requests, money.
        cost_usd: Money of the whole turn, reply and tool together, as far as it is known.
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
        """Whether it asked a tool for more about the clips in view."""
        return self.action not in (None, "answer") and not self.moves


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge said of an answer.

    Attributes:
        judge: Its spec.
        right: The verdict of most votes; None where no verdict could be had.
        votes: Each vote: 1 right, 0 wrong, None where the reply held no verdict.
        error: Why there is no verdict.
        usage: What each vote used: tokens, requests, money.
    """

    judge: str
    right: bool | None = None
    votes: tuple[int | None, ...] = ()
    error: str | None = None
    usage: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds, by where they went. Left out of comparisons."""

    model_s: float = 0.0
    tools_s: float = 0.0
    env_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One played episode.

    Attributes:
        qid: The question's id.
        video_id: Its video.
        question: Its text.
        options: Its options, in the order in which they were shown.
        show: The show, or in `mini` the kind of question, where the source gives it.
        policy: Spec of the policy.
        sample: Which of several plays of the same question, from 0.
        seed: The episode's seed.
        status: How it ended.
        error: What failed, if something did.
        n_options: How many options were shown.
        option_order: Original index of each option shown, if they were shuffled.
        choice: Index of the option chosen, as shown, or None.
        opened_at: Clips shown at the start.
        visited: Clips shown, in order, without repeats.
        turns: What happened in each.
        segments: What the model saw and wrote.
        protocol: How actions were written: `tags` or `functions`.
        first: Request and result of the grounding that chose the first clip, as in a turn.
        correct: Whether the choice is right; None if there is no gold answer or it failed.
        grounded: Whether the gold clip was visited; None if there is no gold clip.
        grounded_first: Whether it was among the clips shown at the start.
        reward: Weighted sum of the terms; None if failed, if there is no gold answer, or if a term
            raised.
        reward_terms: Each term of the reward, unweighted.
        reward_error: Which term raised, and what.
        kind: What the question asks for (see `longvideo_env.datasets.kinds`).
        leaky: Whether agents were shown boxes (`unsafe_boxes`), which name the answer's words.
        ask: `words` or `when`, where the run asked for that (`EnvConfig.ask`).
        answer_scores: How close an answer without options is to the gold: `exact_match` and
            `token_f1`, or `iou` and `recall`.
        judged: What a judge said of the answer.
        frames: Of a master who sees: how many frames were `shown`, how many files were
            `unreadable` and passed over, and how many views had none (`views_without`).
        seen_s: Seconds of the video that were shown or spoken of; what was shown twice counts once.
        timings: Where the time went.
        schema_version: Of this record.
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
        """The answer to a question without options: words, or a stretch of time."""
        if self.options or self.status != "answered" or not self.turns:
            return None
        return self.turns[-1].argument

    @property
    def n_turns(self) -> int:
        """Turns played."""
        return len(self.turns)

    def to_json(self, *, timings: bool = True) -> str:
        """One line of JSON.

        Args:
            timings: False leaves them out: the same seed, config and tool calls then give the
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
            TrajectoryError: The line is torn, or of another schema.
        """
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TrajectoryError(
                f"expected one JSON object, got a line that breaks off or is not JSON ({error})."
            ) from error
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA_VERSION:
            raise TrajectoryError(
                f"expected a trajectory of schema version {SCHEMA_VERSION}, got {version!r}. "
                "Fix: read the file with the release that wrote it."
            )
        record.pop("rollout", None)  # what a training run notes of its rollouts
        try:
            return _from_record(cls, record)
        except (TypeError, KeyError, AttributeError) as error:
            raise TrajectoryError(
                f"not a trajectory of schema {SCHEMA_VERSION}: {error}"
            ) from error


def read_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """Read a JSON Lines file of trajectories, one at a time; one packed with zstd by its suffix.

    Raises:
        TrajectoryError: A line cannot be read; names the file and the line.
        MissingExtraError: The file is packed, and zstandard is not installed.
    """
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield Trajectory.from_json(line)
        except TrajectoryError as error:
            raise TrajectoryError(f"{path}, line {number}: {error}") from error


def read_lines(path: str | Path) -> Iterator[str]:
    """The lines of a text file, or of one packed with zstd whose name ends in `.zst`.

    Raises:
        TrajectoryError: It was cut off, or is not what its name says.
        MissingExtraError: It is packed, and zstandard is not installed.
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
        # Each step adds a frame of its own to the file.
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        try:
            yield from io.TextIOWrapper(reader, encoding="utf-8")
        except (zstandard.ZstdError, UnicodeDecodeError) as error:
            raise TrajectoryError(
                f"{path}: it is torn, or not packed with zstd: {error}"
            ) from error


def written_as(message: Mapping[str, Any] | None, text: str) -> str:
    """What a protocol reads of a reply: its message as JSON, or its text where it has none."""
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
    # `dataclasses.asdict` copies every token id on its own; this leaves containers as they are.
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
    for name in ("token_ids", "logprobs"):
        if record[name] is not None:
            record[name] = tuple(record[name])
    record["frames"] = tuple(map(FrameRef.from_record, record.get("frames", ())))
    return Segment(**record)
