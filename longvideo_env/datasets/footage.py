"""From a benchmark with whole videos to a `Dataset` with clips: what every reader of one shares.

A reader says what its videos hold and what is asked (`Footage`, `Item`); `assemble` cuts videos
into clips, moves times, and checks every question. How a reader is found: `datasets.finding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.datasets.answers import read_answer
from longvideo_env.datasets.coverage import Coverage
from longvideo_env.datasets.dataset import Dataset, LazyVideos
from longvideo_env.datasets.jsonfile import is_clean_text
from longvideo_env.datasets.rejects import MEND_ROW, Rejects, kinds_of
from longvideo_env.datasets.tvqa.material import ClipTimes
from longvideo_env.datasets.tvqa.rows import RowPlace
from longvideo_env.errors import (
    AnswerOutOfRangeError,
    DuplicateQidError,
    InvalidRowError,
    MissingOptionError,
)
from longvideo_env.ids import clip_id_at, safe_video_id
from longvideo_env.media.subtitles import cut_to_clips
from longvideo_env.options import equal_options, name_labels
from longvideo_env.schema import (
    MAX_OPTIONS,
    MIN_OPTIONS,
    Gold,
    Qid,
    Question,
    Task,
    TimedText,
    Video,
)

CLIP_S = 60.0
MAX_CLIPS = 100_000
SPAN_SLACK_S = 1.0
"""How far a span may run over the length of its video: lengths are rounded."""


@dataclass(frozen=True, slots=True)
class Footage:
    """What is known of one video, in its own time.

    Attributes:
        subtitles: Dialogue.
        captions: What is to be seen.
        length_s: Its length, where it is known; else the last text or span ends it.
    """

    subtitles: Sequence[TimedText] = ()
    captions: Sequence[TimedText] = ()
    length_s: float | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One question as a benchmark asks it.

    Attributes:
        row: Its place in the file, for messages.
        qid: Its id.
        text: The question.
        options: Two to sixteen, without labels; None where an answer in words is wanted.
        answer: Index of the right one, or what `read_answer` understands; None where unknown.
        video: The video's name, as in `Benchmark.footage`.
        spans: `(start_s, end_s)` in the video of what shows the answer.
        show: What accuracy is grouped by: such as a category.
        facts: `(name, value)` of the benchmark's own groups.
        file: The row's file, where a benchmark has several.
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
        file: The questions' file, for messages.
        items: The questions.
        footage: Videos by name; those that no question is about are left out.
        clip_s: How long a clip is, in seconds; at least 1.
        columns: What messages call `question`, `options`, `answer`, `video`, `span` and `qid`: the
            file's own names.
        films: Videos that are cut into clips already, by name; they go before `footage`.
    """

    file: Path
    items: Iterable[Item]
    footage: Mapping[str, Footage] = field(default_factory=dict)
    clip_s: float = CLIP_S
    columns: Mapping[str, str] = field(default_factory=dict)
    films: Mapping[str, Video] = field(default_factory=dict)


Reader: TypeAlias = Callable[[Path, str, Rejects], Benchmark]
"""Takes the folder, the split, and what takes the errors of invalid rows."""


def assemble(
    name: str,
    split: str,
    benchmark: Benchmark,
    rejects: Rejects,
    root: Path | None = None,
    frames_root: Path | None = None,
    source: str = "",
) -> Dataset:
    """Cut the videos into clips, and turn the items into tasks.

    Raises:
        InvalidRowError: An item is wrong, and invalid rows are not skipped.
    """
    items = list(benchmark.items)
    cutter = Cutter(benchmark, items)
    tasks = _tasks(items, benchmark, cutter, rejects)
    rejects.finish()
    lazy = LazyVideos(
        cutter.clip_ids,
        {},
        cutter.captions,
        frames_root,
        timed=cutter.subtitles,
        times=ClipTimes(cutter.spans),
    )
    films = {film.video_id: film for film in cutter.films.values()}
    with_text = sum(map(lazy.has_subtitles, lazy))
    with_text += sum(any(clip.subtitles for clip in film.clips) for film in films.values())
    return Dataset(
        name=name,
        split=split,
        tasks=tuple(tasks),
        videos={**lazy, **films} if films else lazy,
        skipped=tuple(rejects.errors),
        root=root,
        source=source,
        read=Coverage(
            len(tasks),
            kinds_of(rejects.errors),
            len(cutter.video_ids),
            with_text,
            rejects.unread,
            rejects.notes,
        ),
    )


def _tasks(
    items: Sequence[Item], benchmark: Benchmark, cutter: Cutter, rejects: Rejects
) -> list[Task]:
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for item in items:
        place = RowPlace(item.file or benchmark.file, item.row)
        try:
            task = make_task(item, place, cutter, benchmark.columns)
            first = seen.setdefault(str(task.qid), item.row)
            if first != item.row:
                task = _apart(task, first, place, seen, rejects)
            tasks.append(task)
        except InvalidRowError as error:
            rejects.add(error, error.__cause__)
            continue
        if equal_options(task.question.options):
            rejects.notes["with two equal options (both count as right)"] += 1
    return tasks


def _apart(task: Task, first: int, place: RowPlace, seen: dict[str, int], rejects: Rejects) -> Task:
    """A question that shares another's id, under an id of its own.

    Raises:
        DuplicateQidError: Invalid rows are not skipped.
    """
    if not rejects.skip_invalid:
        raise RowPlace(place.file, place.row, task.qid).error(
            DuplicateQidError, f"expected a qid of its own; rows {first} and {place.row} share it."
        )
    number = 2
    while f"{task.qid}#{number}" in seen:
        number += 1
    qid = f"{task.qid}#{number}"
    seen[qid] = place.row
    rejects.notes["with an id that another has too (made unique)"] += 1
    return Task(replace(task.question, qid=qid), task.gold)


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
        # The length of a video goes before what subtitles say of it: those may run on.
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
        """The clip and times in it of each span; a span over several clips counts in each."""
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
    """The same for a film that is cut already; clips without times show nothing known."""
    found = []
    for start, end in spans:
        for clip in film.clips:
            if clip.start_s is None or clip.end_s is None:
                continue
            inside = max(start, clip.start_s), min(end, clip.end_s)
            if inside[0] < inside[1] or clip.start_s <= start == end < clip.end_s:
                found.append((clip.clip_id, inside[0] - clip.start_s, inside[1] - clip.start_s))
    return tuple(found)


def make_task(item: Item, place: RowPlace, cutter: Cutter, columns: Mapping[str, str]) -> Task:
    """A question, checked.

    Raises:
        InvalidRowError: Or one of its kinds: it is wrong.
    """
    qid = _checked_qid(item.qid, place, columns.get("qid", "qid"))
    place = RowPlace(place.file, place.row, qid)
    if not is_clean_text(item.text) or not item.text.strip():
        raise place.error(
            InvalidRowError,
            f"expected a question text in {columns.get('question', 'question')!r}, got "
            f"{item.text!r:.60}.",
        )
    options = _checked_options(item.options, place, columns.get("options", "options"))
    if item.video not in cutter.video_ids:
        raise place.error(
            InvalidRowError,
            f"expected the name of a video in {columns.get('video', 'video')!r}, got "
            f"{item.video!r:.60}.",
        )
    question = Question(
        qid=qid,
        text=item.text.strip(),
        options=options,
        video_id=cutter.video_ids[item.video],
        show=item.show if is_clean_text(item.show) else None,
        facts=item.facts,
    )
    return Task(question, _gold(item, options, place, cutter, columns))


def _gold(
    item: Item,
    options: tuple[str, ...],
    place: RowPlace,
    cutter: Cutter,
    columns: Mapping[str, str],
) -> Gold:
    if not options:
        words = item.answer if is_clean_text(item.answer) else None
        return Gold(text=words, **_gold_place(item, place, cutter, columns))
    try:
        answer = item.answer
        if type(answer) is not int or not 0 <= answer < len(options):
            answer = read_answer(answer, options)
    except ValueError as error:
        raise place.error(
            AnswerOutOfRangeError,
            f"expected an answer in {columns.get('answer', 'answer')!r} as a label from a0 to "
            f"a{len(options) - 1}, a letter, an index or an option's text, {error}.",
        ) from error
    right = next((group for group in equal_options(options) if answer in group), ())
    twins = tuple(twin for twin in right if twin != answer)
    return Gold(
        answer=answer,
        twins=twins,
        **(_gold_place(item, place, cutter, columns) if item.spans else {}),
    )


def _gold_place(
    item: Item, place: RowPlace, cutter: Cutter, columns: Mapping[str, str]
) -> dict[str, Any]:
    length = cutter.lengths[item.video]
    for start, end in item.spans:
        name = columns.get("span", "start_s, end_s")
        if not 0 <= start <= end:
            raise place.error(
                InvalidRowError,
                f"expected a start from 0 on and an end after it in {name!r}, got "
                f"[{start:g}, {end:g}].",
            )
        if length is not None and end > length + SPAN_SLACK_S:
            raise place.error(
                InvalidRowError,
                f"expected a span inside the video in {name!r}, got [{start:g}, {end:g}] in "
                f"{length:g} s.",
            )
    clues = cutter.clues(item)
    if not clues:
        return {}
    clip_id, *span = clues[0]
    return {"clip_id": clip_id, "span": (span[0], span[1]), "clues": clues}


def _checked_qid(qid: object, place: RowPlace, column: str) -> Qid:
    if type(qid) is int:
        return qid
    if is_clean_text(qid) and qid.strip():
        return qid.strip()
    raise place.error(
        InvalidRowError, f"expected a whole number or a text in {column!r}, got {qid!r:.60}."
    )


def _checked_options(
    options: Sequence[Any] | None, place: RowPlace, column: str
) -> tuple[str, ...]:
    if options is None:
        return ()
    if not MIN_OPTIONS <= len(options) <= MAX_OPTIONS:
        raise place.error(
            MissingOptionError,
            f"expected {MIN_OPTIONS} to {MAX_OPTIONS} options in {column!r}, got {len(options)}.",
        )
    try:
        if "\n".join(options).isascii() and all(texts := tuple(map(str.strip, options))):
            return name_labels(texts)
    except TypeError:
        pass
    found = []
    for i, option in enumerate(options):
        if type(option) in (int, float, bool):
            option = str(option)
        if not is_clean_text(option) or not option.strip():
            raise place.error(
                MissingOptionError,
                f"expected a text for option a{i} in {column!r}, got {option!r:.60}.",
            )
        found.append(option.strip())
    return name_labels(found)


def read_spans(value: object, file: Path, row: int) -> list[tuple[float, float]]:
    """`[[start_s, end_s], ...]`; none for null.

    Raises:
        InvalidRowError: It is of another shape.
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
