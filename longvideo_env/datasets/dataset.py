"""A split of a dataset: its tasks and its videos. Videos are built on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from longvideo_env.datasets.coverage import Coverage
from longvideo_env.datasets.layers import SPEECH, RawLayer
from longvideo_env.datasets.rejects import kinds_of
from longvideo_env.datasets.tvqa.index import LazyTasks
from longvideo_env.datasets.tvqa.material import ClipTimes
from longvideo_env.datasets.tvqa.texts import RawCaptions, build_captions, split_utterances
from longvideo_env.errors import InvalidRowError, MissingExtraError, SpecError
from longvideo_env.schema import Clip, Layer, Qid, Question, Task, Video


class LazyVideos(Mapping[str, Video]):
    """Videos by id. Each is built at first use and then cached.

    Args:
        clip_ids: Video id -> the ids of its clips, in order of time.
        subtitles: Clip id -> text with `<eos>` after each utterance.
        captions: Clip id -> checked captions.
        frames_root: Folder of the frames, or None.
        timed: Clip id -> checked dialogue with times. Used instead of `subtitles` where present.
        times: Start and end of the clips in their videos.
        layers: What models heard, read or saw. If a video has no dialogue, the recognised speech is
            used as its dialogue.
    """

    def __init__(
        self,
        clip_ids: Mapping[str, tuple[str, ...]],
        subtitles: Mapping[str, str],
        captions: RawCaptions,
        frames_root: Path | None,
        *,
        timed: RawCaptions | None = None,
        times: ClipTimes | None = None,
        layers: Sequence[RawLayer] = (),
    ) -> None:
        """Store the texts that videos are built from."""
        self._clip_ids = clip_ids
        self._subtitles = subtitles
        self._captions = captions
        self._frames_root = frames_root
        self._timed = timed or {}
        self._times = times or ClipTimes()
        self._layers = layers
        self._built: dict[str, Video] = {}

    def __getitem__(self, video_id: str) -> Video:
        """The video of an id."""
        video = self._built.get(video_id)
        if video is None:
            # Not a plain assignment: two threads at once must end up with one object.
            video = self._built.setdefault(video_id, self._build(video_id))
        return video

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids, in order."""
        return iter(self._clip_ids)

    def __len__(self) -> int:
        """The number of videos."""
        return len(self._clip_ids)

    def __contains__(self, video_id: object) -> bool:
        """Whether there is a video with that id. Does not build it."""
        return video_id in self._clip_ids

    def digest(self) -> str:
        """A digest of all clips and texts, without building a video."""
        found = blake2b(digest_size=16)
        for clip_ids in self._clip_ids.values():
            for clip_id in clip_ids:
                texts = (self._timed.get(clip_id), self._captions.get(clip_id))
                parts = (
                    self._times.spans.get(clip_id),
                    *map(build_captions, (t or [] for t in texts)),
                )
                found.update(repr((clip_id, self._subtitles.get(clip_id) or "", parts)).encode())
                if layers := self._made(clip_id):
                    found.update(repr(layers).encode())
        return found.hexdigest()

    def has_subtitles(self, video_id: str) -> bool:
        """Whether any clip of a video has dialogue. Does not build the video."""
        speech = [layer.lines for layer in self._layers if layer.kind == SPEECH]
        return any(
            any(texts.get(clip_id) for texts in (self._timed, self._subtitles, *speech))
            for clip_id in self._clip_ids[video_id]
        )

    def _build(self, video_id: str) -> Video:
        clips = tuple(map(self._clip, self._clip_ids[video_id]))
        if not any(clip.subtitles for clip in clips):
            clips = tuple(map(_speech_as_dialogue, clips))
        times = self._times
        return Video(video_id, clips, self._frames_root, times.frames_fps, times.clip_s)

    def _clip(self, clip_id: str) -> Clip:
        timed = build_captions(self._timed.get(clip_id, []))
        start_s, end_s = self._times.spans.get(clip_id, (None, None))
        return Clip(
            clip_id,
            timed or split_utterances(self._subtitles.get(clip_id, "")),
            build_captions(self._captions.get(clip_id, [])),
            start_s,
            end_s,
            self._made(clip_id),
        )

    def _made(self, clip_id: str) -> tuple[Layer, ...]:
        return tuple(
            Layer(layer.kind, layer.model, build_captions(layer.lines[clip_id]))
            for layer in self._layers
            if layer.lines.get(clip_id)
        )


def _speech_as_dialogue(clip: Clip) -> Clip:
    others = tuple(layer for layer in clip.layers if layer.kind != SPEECH)
    return replace(clip, subtitles=clip.layer(SPEECH), layers=others)


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a dataset. Compared and hashed by identity. Can be pickled.

    Attributes:
        name: `embedded`, or the name of the folder or of the file without its suffix.
        split: Name of the split, as requested.
        tasks: The questions with their gold, in file order. In a large split each task is built on
            demand.
        videos: All videos of the dataset by id. Includes videos of other splits that subtitles or
            captions name. A video is built on demand.
        skipped: The rows left out by `skip_invalid`.
        root: Folder of the files, or None if there is none.
        source: For rows in memory: a hash of their content. Otherwise empty.
        read: How much was read, if the reader counted it.
    """

    name: str
    split: str
    tasks: Sequence[Task]
    videos: Mapping[str, Video] = field(repr=False)
    skipped: tuple[InvalidRowError, ...] = field(default=(), repr=False)
    root: Path | None = None
    source: str = ""
    read: Coverage | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        videos = f"{len(self.videos):,} videos"
        return f"Dataset({self.name}, {self.split}: {len(self):,} questions, {videos})"

    @cached_property
    def coverage(self) -> Coverage:
        """What was read and what was not."""
        if self.read is not None:
            return self.read
        videos = self.videos
        if isinstance(videos, LazyVideos):
            with_text = sum(map(videos.has_subtitles, videos))
        else:
            with_text = sum(any(c.subtitles for c in v.clips) for v in videos.values())
        return Coverage(len(self), kinds_of(self.skipped), len(videos), with_text)

    def to_pandas(self) -> Any:
        """A DataFrame with one question a row; gold included.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("pandas", "data") from error
        return pd.DataFrame([_record(task) for task in self.tasks])

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        return {str(qid): i for i, qid in enumerate(self.qids)}

    @cached_property
    def qids(self) -> Sequence[Qid]:
        """The ids of all questions, in order."""
        tasks = self.tasks
        return tasks.qids if isinstance(tasks, LazyTasks) else [task.qid for task in tasks]

    @cached_property
    def fewest_options(self) -> int:
        """Smallest number of options of any question; at least 2."""
        if isinstance(self.tasks, LazyTasks):
            return self.tasks.fewest_options
        return min((len(task.question.options) for task in self.tasks), default=2)

    def gold_clips(self) -> Mapping[str, str]:
        """`str(qid)` -> gold clip id, where known. Only for the oracle and metrics."""
        if isinstance(self.tasks, LazyTasks):
            return self.tasks.gold_clips()
        return {str(task.qid): task.gold.clip_id for task in self.tasks if task.gold.clip_id}

    def __len__(self) -> int:
        """The number of questions."""
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        """Iterate over the tasks in the order of the file."""
        return iter(self.tasks)

    def __getitem__(self, index: int) -> Task:
        """The task at a position."""
        return self.tasks[index]

    def task(self, qid: Qid) -> Task:
        """The question with an id. The id may be given as in the file or as text.

        Raises:
            SpecError: No question has this id.
        """
        position = self._positions.get(str(qid))
        if position is None:
            raise SpecError(
                f"no question {qid!r} in {self.name}, split {self.split} ({len(self):,} in "
                f"all).{_close(str(qid), self._positions)} Fix: pass a qid of this split."
            )
        return self.tasks[position]

    def video(self, item: Task | Question) -> Video:
        """The video that a task or question is about.

        Raises:
            SpecError: The dataset does not have the video.
        """
        question = item.question if isinstance(item, Task) else item
        if question.video_id not in self.videos:
            raise SpecError(
                f"no video {question.video_id!r} in {self.name} ({len(self.videos):,} in "
                f"all).{_close(question.video_id, self.videos)} Fix: pass a task or question of "
                "this dataset."
            )
        return self.videos[question.video_id]


def _record(task: Task) -> dict[str, Any]:
    question, gold = task.question, task.gold
    start_s, end_s = gold.span or (None, None)
    return {
        "qid": question.qid,
        "question": question.text,
        "options": list(question.options),
        "answer": gold.text if gold.answer is None else gold.answer,
        "video": question.video_id,
        "clip": gold.clip_id,
        "start_in_clip_s": start_s,
        "end_in_clip_s": end_s,
        "show": question.show,
        **dict(question.facts),
    }


def _close(word: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(word, known, n=3)
    return f" Close to it: {', '.join(close)}." if close else ""
