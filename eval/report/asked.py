"""The questions of the episodes, from the dataset with gold answers, or else from the prompts."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from eval.report.folders import SavedEpisode, Source
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.forms import open_questions
from longvideo_env.errors import DataError, SpecError
from longvideo_env.ids import show_of
from longvideo_env.schema import Gold, Task, Video
from longvideo_env.spans import write_spans

_ASKS = re.compile(r"\b(what|who|whose|whom|where|why|how|when|which)\b", re.IGNORECASE)
_SAME = {"whose": "who", "whom": "who"}
MINI = "mini:"


class Questions:
    """The questions of a page. A question that several runs play occurs once.

    Args:
        dataset: A dataset to read instead of the runs' own.
        split: Its split, or None for each run's own.
        frames_root: Folder of frames, or None for the dataset's.

    Attributes:
        records: The questions as the page needs them.
        videos: The video of each question, or None if the dataset could not be read.
    """

    def __init__(
        self,
        dataset: str | None = None,
        split: str | None = None,
        frames_root: str | None = None,
    ) -> None:
        self._dataset = dataset
        self._split = split
        self._frames_root = frames_root
        self._ids: dict[tuple[Any, ...], int] = {}
        self.records: list[dict[str, Any]] = []
        self.videos: list[Video | None] = []

    def open(self, source: Source) -> Asked:
        """The questions of a run."""
        config = EnvConfig()
        names = {
            name: source.config.get(name) for name in ("dataset", "split", "frames_root", "ask")
        }
        chosen = {"dataset": self._dataset, "split": self._split, "frames_root": self._frames_root}
        names |= {name: value for name, value in chosen.items() if value is not None}
        if names["dataset"] is None:
            note = "The run's dataset is not known. Questions are shown as in the prompts, "
            return Asked(self, None, f"{note}without gold answers (--dataset, --split).")
        config = replace(config, **{k: v for k, v in names.items() if v is not None})
        try:
            found = open_questions(config, skip_invalid=True)
        except (DataError, SpecError) as error:
            note = f"The dataset cannot be read ({error}). Questions are shown as in the prompts, "
            return Asked(self, None, f"{note}without gold answers (--dataset, --split).")
        return Asked(self, found)

    def add(self, key: tuple[Any, ...], record: dict[str, Any], video: Video | None) -> int:
        """The index of a question. A new question is added."""
        if key not in self._ids:
            self._ids[key] = len(self.records)
            self.records.append(record)
            self.videos.append(video)
        return self._ids[key]


class Asked:
    """The questions of one run. `note` describes a problem with its dataset, or is empty."""

    def __init__(self, questions: Questions, dataset: Dataset | None, note: str = "") -> None:
        self._questions = questions
        self._dataset = dataset
        self._tasks = {str(task.qid): task for task in dataset} if dataset else {}
        self.note = note
        self.n_unknown = 0

    def place(self, episode: SavedEpisode) -> int:
        """The index of an episode's question."""
        played = episode.trajectory
        task = self._tasks.get(str(played.qid))
        # Another dataset may have another question with the same id.
        if task is None or self._dataset is None or task.question.text != played.question:
            self.n_unknown += self._dataset is not None
            return self._from_episode(episode)
        video = self._dataset.videos[task.question.video_id]
        asked = (task.question.text, task.question.ask)
        key = (self._dataset.name, self._dataset.split, str(task.qid), *asked)
        return self._questions.add(key, _from_task(task, video), video)

    def _from_episode(self, episode: SavedEpisode) -> int:
        played = episode.trajectory
        shown, order = played.options, played.option_order
        options = [shown[order.index(i)] for i in range(len(shown))] if order else list(shown)
        text = played.question or f"(question {played.qid}: its text is not known)"
        record = {
            "qid": str(played.qid),
            "text": text,
            "options": options,
            "answer": None,
            "right": None,
            "video": played.video_id,
            "show": show_name(played.show, played.video_id),
            "kind": kind_of(text, played.show),
            "clips": list(played.visited),
            "all_clips": False,
            "gold": None,
            "when": None,
            "times": None,
            "exact": False,
        }
        place = self._questions.add(("prompt", str(played.qid), text), record, None)
        clips: list[str] = self._questions.records[place]["clips"]
        clips.extend(clip for clip in played.visited if clip not in clips)
        return place


def _from_task(task: Task, video: Video) -> dict[str, Any]:
    question, gold = task.question, task.gold
    return {
        "qid": str(task.qid),
        "text": question.text,
        "right": _right_without_options(gold) if gold.answer is None else None,
        "options": list(question.options),
        "answer": gold.answer,
        "video": question.video_id,
        "show": show_name(question.show, question.video_id),
        "kind": kind_of(question.text, question.show),
        "clips": list(video.clip_ids),
        "all_clips": True,
        "gold": gold.clip_id,
        "when": _film_times(gold, video),
        "times": [[round(at, 2) for at in video.clip_times(clip)] for clip in video.clip_ids],
        "exact": all(clip.start_s is not None for clip in video.clips),
    }


def _film_times(gold: Gold, video: Video) -> list[float] | None:
    """The time of the answer in the whole video, in seconds. `Gold.span` is within its clip."""
    if gold.span is None or gold.clip_id is None or gold.clip_id not in video:
        return None
    start = video.clip_times(gold.clip_id)[0]
    return [round(start + at, 2) for at in gold.span]


def _right_without_options(gold: Gold) -> str | None:
    return f"{write_spans(gold.when)} s" if gold.when else gold.text


def kind_of(text: str, show: str | None) -> str:
    """The kind of a question: its kind in `mini`, or its first question word.

    `when` counts only without another question word, because it is usually a conjunction.
    """
    if show is not None and show.startswith(MINI):
        return show.removeprefix(MINI)
    words = [word.lower() for word in _ASKS.findall(text)]
    asking = [word for word in words if word != "when"] or words
    return _SAME.get(asking[0], asking[0]) if asking else "other"


def show_name(show: str | None, video_id: str) -> str:
    """The show's title, or the show in the video's id."""
    if show is not None and show.startswith(MINI):
        return "mini"
    return show or show_of(video_id) or "unknown"


def needs_look(kind: str, show: str | None) -> bool | None:
    """Whether a question can only be answered by looking. Known only for `mini`."""
    if show is None or not show.startswith(MINI):
        return None
    return not kind.startswith("say_")
