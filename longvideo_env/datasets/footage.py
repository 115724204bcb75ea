"""What a benchmark's reader returns: the contents of its videos, and its questions.

Times in `Footage`, `Item` and `Benchmark` are seconds from the start of the video. `Cutter` cuts
videos into clips. `datasets.assembling` builds a `Dataset` from them. `datasets.finding` finds the
reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.datasets.jsonfile import is_clean_text
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.errors import (
    InvalidRowError,
)
from longvideo_env.ids import clip_id_at, safe_video_id
from longvideo_env.media.subtitles import cut_to_clips
from longvideo_env.schema import (
    TimedText,
    Video,
)

CLIP_S = 60.0
MAX_CLIPS = 100_000
SPAN_SLACK_S = 1.0
"""Seconds by which a span may exceed the length of its video, since lengths are rounded."""


@dataclass(frozen=True, slots=True)
class Footage:
    """What is known about one video. Times are seconds from its start.

    Attributes:
        subtitles: Dialogue.
        captions: Descriptions of what is seen.
        length_s: Its length, if known. Otherwise it ends with the last text or span.
    """

    subtitles: Sequence[TimedText] = ()
    captions: Sequence[TimedText] = ()
    length_s: float | None = None


@dataclass(slots=True)
class Item:
    """One question as a benchmark asks it.

    Attributes:
        row: Its row in the file, for error messages.
        qid: Its id.
        text: The question.
        options: Two to sixteen texts without labels. None if the answer is free text.
        answer: Index of the right option, or a form that `read_answer` understands. None if
            unknown.
        video: The video's name, as in `Benchmark.footage`.
        spans: `(start_s, end_s)` in the video where the answer is shown.
        show: The group for accuracy, such as a category.
        facts: `(name, value)` pairs: further groups of the benchmark.
        file: The row's file, if the benchmark has several.
    """

    row: int
    qid: Any
    text: Any
    options: Sequence[Any] | None
    answer: Any
    video: str
    spans: Sequence[tuple[float, float]] = ()
    show: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What a reader returns.

    Attributes:
        file: The questions' file, for error messages.
        items: The questions.
        footage: Videos by name. Videos without a question are left out.
        clip_s: Length of a clip in seconds; at least 1.
        columns: The file's own names for `question`, `options`, `answer`, `video`, `span` and
            `qid`, used in error messages.
        films: Videos that are already cut into clips, by name. Used instead of `footage`.
    """

    file: Path
    items: Iterable[Item]
    footage: Mapping[str, Footage] = field(default_factory=dict)
    clip_s: float = CLIP_S
    columns: Mapping[str, str] = field(default_factory=dict)
    films: Mapping[str, Video] = field(default_factory=dict)


Reader: TypeAlias = Callable[[Path, str, Rejects], Benchmark]
"""A reader: takes the folder, the split, and the collector of invalid rows."""


_NONE = Footage()


class Cutter:
    """Cuts all videos into clips."""

    def __init__(self, benchmark: Benchmark, items: Sequence[Item]) -> None:
        self.clip_ids: dict[str, tuple[str, ...]] = {}
        self.spans: dict[str, tuple[float, float]] = {}
        self.subtitles: dict[str, list[dict[str, Any]]] = {}
        self.captions: dict[str, list[dict[str, Any]]] = {}
        self.video_ids: dict[str, str] = {}
        self.lengths: dict[str, float | None] = {}
        self.films: dict[str, Video] = {}
        self.clip_s = benchmark.clip_s
        ends: dict[str, float] = {}
        for item in items:
            end_s = ends.get(item.video, 0.0)
            ends[item.video] = (
                max([end_s, *(end for _, end in item.spans)]) if item.spans else end_s
            )
        for video, end_s in ends.items():
            if video in benchmark.films:
                self._take(video, benchmark.films[video])
            elif is_clean_text(video) and video.strip():
                self._cut(video, benchmark.footage.get(video, _NONE), end_s)

    def _cut(self, video: str, footage: Footage, end_s: float) -> None:
        texts = (*footage.subtitles, *footage.captions)
        # A known length wins over the subtitles, which may run past the end.
        length = footage.length_s or max([end_s, *(text.end_s or 0.0 for text in texts)])
        n = min(MAX_CLIPS, max(1, -int(-length // self.clip_s)))
        video_id = self.video_ids[video] = safe_video_id(video)
        self.lengths[video] = footage.length_s
        clip_ids = tuple(clip_id_at(video_id, i * self.clip_s) for i in range(n))
        self.clip_ids[video_id] = clip_ids
        spans = [(i * self.clip_s, (i + 1) * self.clip_s) for i in range(n)]
        self.spans.update(zip(clip_ids, spans, strict=True))
        for found, cut in ((footage.subtitles, self.subtitles), (footage.captions, self.captions)):
            if found:
                cut.update(zip(clip_ids, cut_to_clips(found, spans), strict=True))

    def _take(self, video: str, film: Video) -> None:
        self.films[video] = film
        self.video_ids[video] = film.video_id
        self.lengths[video] = film.clips[-1].end_s

    def clues(self, item: Item) -> tuple[tuple[str, float, float], ...]:
        """Clip and times within it for each span.

        A span over several clips counts in each of them.
        """
        if item.video in self.films:
            return _clues_in(self.films[item.video], item.spans)
        clip_ids = self.clip_ids[self.video_ids[item.video]]
        found = []
        for start, end in item.spans:
            first, last = int(start // self.clip_s), int(end // self.clip_s)
            # A span that ends with the last clip belongs to it.
            first = min(first, len(clip_ids) - 1)
            for i in range(first, min(last, len(clip_ids) - 1) + 1):
                at = i * self.clip_s
                inside = (max(start, at) - at, min(end, at + self.clip_s) - at)
                if inside[0] < inside[1] or start == end:
                    found.append((clip_ids[i], *inside))
        return tuple(found)


def _clues_in(
    film: Video, spans: Sequence[tuple[float, float]]
) -> tuple[tuple[str, float, float], ...]:
    """The same for a film that is already cut. Clips without times are skipped."""
    found = []
    for start, end in spans:
        for clip in film.clips:
            if clip.start_s is None or clip.end_s is None:
                continue
            inside = max(start, clip.start_s), min(end, clip.end_s)
            if inside[0] < inside[1] or clip.start_s <= start == end < clip.end_s:
                found.append((clip.clip_id, inside[0] - clip.start_s, inside[1] - clip.start_s))
    return tuple(found)


def read_spans(value: object, file: Path, row: int) -> list[tuple[float, float]]:
    """Read `[[start_s, end_s], ...]`. Empty for null.

    Raises:
        InvalidRowError: The value has another shape.
    """
    pairs: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    spans = []
    for pair in pairs:
        good = isinstance(pair, list) and len(pair) == 2
        if not good or not all(type(t) in (int, float) and 0 <= t < 1e6 for t in pair):
            raise InvalidRowError(
                f"expected [start, end] in seconds, got {pair!r:.60}.", file, row, MEND_ROW
            )
        spans.append((float(pair[0]), float(pair[1])))
    return spans
