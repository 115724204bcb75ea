"""Data records: what agents may see (`Question`, `Video`) and what they may not see (`Gold`).

Prompts, tools and policies get a `Question` and a `Video`. Only reward and metrics get a `Gold`, so
that an answer cannot leak by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.choices import move_labels
from longvideo_env.errors import ToolError
from longvideo_env.spans import Span

MIN_OPTIONS = 2
MAX_OPTIONS = 16

NOMINAL_CLIP_S = 90.0
"""Default length of a clip in seconds. TVQA's clips run 60 to 90 s."""

Qid: TypeAlias = int | str
"""A question's id, with the type of its source."""

Boxes: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""TVQA+ boxes as in the file: frame number at 3 fps -> labelled boxes."""


@dataclass(frozen=True, slots=True)
class TimedText:
    """A line of dialogue or a description, with its time in the clip if known.

    Attributes:
        text: The words.
        start_s: Seconds from the start of the clip, or None.
        end_s: Seconds from the start of the clip, or None.
    """

    text: str
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """What a model heard, read or saw in a clip.

    Attributes:
        kind: `speech`, `text` (read in the frames) or `captions`.
        model: The model that made it, such as `whisper:tiny.en`.
        lines: Lines in order of time.
    """

    kind: str
    model: str
    lines: tuple[TimedText, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A 60-90 s part of a video.

    Attributes:
        clip_id: Such as `s05e02_seg02_clip_00`.
        subtitles: Its dialogue, in order; may be empty.
        captions: Descriptions of what is seen, for vision agents without a model.
        start_s: Start of the clip in its video in seconds, if known.
        end_s: End of the clip in its video in seconds, if known.
        layers: What models heard, read or saw; at most one layer of each kind.
    """

    clip_id: str
    subtitles: tuple[TimedText, ...] = ()
    captions: tuple[TimedText, ...] = ()
    start_s: float | None = None
    end_s: float | None = None
    layers: tuple[Layer, ...] = ()

    def layer(self, kind: str) -> tuple[TimedText, ...]:
        """The lines of a layer. Empty if there is no such layer."""
        return next((layer.lines for layer in self.layers if layer.kind == kind), ())

    @property
    def searched(self) -> tuple[TimedText, ...]:
        """All lines for searches: dialogue, then the layers."""
        return (*self.subtitles, *(line for layer in self.layers for line in layer.lines))


@dataclass(frozen=True, eq=False)
class Video:
    """One long video and its clips, in order of time. Compared and hashed by identity.

    Attributes:
        video_id: For TVQA, the TV episode, such as `castle_s01e01`.
        clips: At least one clip.
        frames_root: Folder with the clips' frames, or None. It is read only when a vision agent
            asks (see `longvideo_env.media.frames`).
        frames_fps: Frame numbers per second.
        clip_s: Length in seconds of clips without known times.
    """

    video_id: str
    clips: tuple[Clip, ...]
    frames_root: Path | None = None
    frames_fps: float = 3.0
    clip_s: float = NOMINAL_CLIP_S

    @cached_property
    def clip_ids(self) -> tuple[str, ...]:
        """The ids of all clips, in order of time."""
        return tuple(clip.clip_id for clip in self.clips)

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        return {clip_id: i for i, clip_id in enumerate(self.clip_ids)}

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self._positions

    def __getitem__(self, clip_id: str) -> Clip:
        return self.clips[self._positions[clip_id]]

    @cached_property
    def _times(self) -> tuple[Span, ...]:
        times: list[Span] = []
        at = 0.0
        for clip in self.clips:
            start = at if clip.start_s is None else clip.start_s
            at = start + self.clip_s if clip.end_s is None else clip.end_s
            times.append((start, at))
        return tuple(times)

    @cached_property
    def length_s(self) -> float:
        """Where the last clip ends."""
        return max(end for _, end in self._times)

    @cached_property
    def whole_clips(self) -> Mapping[str, tuple[str, float, float]]:
        """Each clip from its start to its end: `(clip_id, 0.0, seconds)`."""
        times = zip(self.clip_ids, self._times, strict=True)
        return {clip_id: (clip_id, 0.0, round(b - a, 6)) for clip_id, (a, b) in times}

    def clip_times(self, clip_id: str) -> Span:
        """Start and end of a clip in the video, in seconds.

        If the source gives no times, clips follow each other and last `clip_s` each. These times
        may differ from the film's own.
        """
        return self._times[self._positions[clip_id]]

    def window(self, clip_id: str, size: int) -> tuple[str, ...]:
        """The evidence window: `size` adjacent clips around a clip, or all if the video has fewer.

        A window of even size has one clip more after than before. At the ends of the video it is
        shifted inwards and keeps its size.
        """
        size = min(size, len(self.clips))
        start = self._positions[clip_id] - (size - 1) // 2
        start = max(0, min(start, len(self.clips) - size))
        return self.clip_ids[start : start + size]


@dataclass(frozen=True, slots=True)
class Question:
    """The part of a task that the master agent, the tools and the prompts may see.

    Attributes:
        qid: The question's id.
        text: The question.
        options: Two to sixteen options. Empty if the answer is free text.
        video_id: The video that the question is about.
        show: Title of the show, if the source gives it.
        facts: `(name, value)` pairs: groups for the accuracy, such as `("duration", "long")`.
        ask: `words` (free text) or `when` (a stretch of the video in seconds), if a run asks for
            that instead of the dataset's form.
    """

    qid: Qid
    text: str
    options: tuple[str, ...]
    video_id: str
    show: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    ask: str | None = None


@dataclass(frozen=True, slots=True)
class Gold:
    """The part of a task that only reward and metrics may see. Any field may be unknown.

    Attributes:
        answer: Index of the right option.
        clip_id: The clip that shows the answer.
        span: `(start_s, end_s)` in that clip.
        boxes: TVQA+ boxes. They contain words of the right answer. Never show them to an agent.
        clues: All stretches that show the answer, as `(clip_id, start_s, end_s)`, if the source
            names several. `clip_id` and `span` are then the first.
        twins: Indices of options with the same text as the right one. They count as right.
        text: The free-text answer, if the question has no options.
        when: The stretches that show the answer, in seconds of the whole video, if the question
            asks "when".
    """

    answer: int | None = None
    clip_id: str | None = None
    span: tuple[float, float] | None = None
    boxes: Boxes | None = field(default=None, repr=False)
    clues: tuple[tuple[str, float, float], ...] = ()
    twins: tuple[int, ...] = ()
    text: str | None = None
    when: tuple[Span, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether an answer is known: an option, free text, or a stretch of time."""
        return self.answer is not None or self.text is not None or bool(self.when)

    def is_right(self, choice: int | None) -> bool | None:
        """Whether a choice is right. None if the answer is unknown."""
        return None if self.answer is None else choice == self.answer or choice in self.twins

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """The clips that show the answer; finding one of them is enough. Empty if unknown."""
        if self.clip_id is None:
            return ()
        return tuple(dict.fromkeys([self.clip_id, *(clip_id for clip_id, _, _ in self.clues)]))


@dataclass(frozen=True, slots=True)
class FrameRef:
    """A reference to a frame: its identity, not its contents.

    Attributes:
        clip_id: Its clip.
        frame_index: Number in the file's name.
        time_s: Seconds from the start of the clip.
        path: Path of the image, if available. Not kept in records.
    """

    clip_id: str
    frame_index: int
    time_s: float
    path: Path | None = field(default=None, compare=False, repr=False)

    @property
    def file(self) -> Path:
        """Path of the image.

        Raises:
            ToolError: The image is not available.
        """
        if self.path is None:
            raise ToolError(
                f"the image of frame {self.frame_index} of {self.clip_id} is not available."
            )
        return self.path

    def record(self) -> list[Any]:
        """Plain values for `from_record`."""
        return [self.clip_id, self.frame_index, round(self.time_s, 3)]

    @classmethod
    def from_record(cls, record: Sequence[Any]) -> FrameRef:
        """Rebuild a frame from a trajectory, without its path."""
        clip_id, frame_index, time_s = record
        return cls(str(clip_id), int(frame_index), float(time_s))


@dataclass(frozen=True, slots=True)
class Task:
    """A question with its gold."""

    question: Question
    gold: Gold

    @property
    def qid(self) -> Qid:
        """The question's id."""
        return self.question.qid

    def reorder(self, order: Sequence[int]) -> Task:
        """The same task with option `order[i]` at index `i`.

        Labels inside options ("both a0 and a1") are changed to name the same options.

        Raises:
            ValueError: `order` is not a permutation of the options' indices.
        """
        options = self.question.options
        if sorted(order) != list(range(len(options))):
            raise ValueError(f"expected a permutation of 0..{len(options) - 1}, got {list(order)}")
        question = replace(self.question, options=move_labels(options, order))
        answer, place = self.gold.answer, {original: i for i, original in enumerate(order)}
        gold = replace(
            self.gold,
            answer=None if answer is None else place[answer],
            twins=tuple(place[twin] for twin in self.gold.twins),
        )
        return Task(question, gold)


def clock(seconds: float) -> str:
    """Seconds as `mm:ss`. Minutes may exceed 59."""
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
