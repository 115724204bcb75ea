"""Choose the questions of a split to play, and their order.

    --questions 12,40-60             ids; a range means all numbers in it, or, if ids are words,
                                     all questions between two ids in the dataset
    --questions @ids.txt             a file with one id per line
    --questions failed:runs/a/random the questions that failed in a run; or wrong:RUN
    --limit 100 --shuffle 7          a hundred questions, drawn over the videos by seed 7

`--limit` gives each video its share of the N questions. So few questions come from many videos, and
the accuracy stays representative. A larger N keeps all questions of a smaller N, so a run can grow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from eval.metrics.pairs import Run, read_run
from eval.runs.store import CONFIG, IDENTITY, QuestionDigests
from longvideo_env import Dataset, Task
from longvideo_env.datasets.draw_questions import draw_order
from longvideo_env.errors import InputError, LongVideoEnvError, SpecError
from longvideo_env.records.identity import changed_questions, name_some, short_hash
from longvideo_env.strict import check_fields

DRAW = "draw"
"""The part of a run's identity for the draw of `--limit`."""

_RANGE = re.compile(r"(\d+)-(\d+)", re.ASCII)
_RUNS = ("failed", "wrong")


@dataclass(frozen=True)
class QuestionSelection:
    """The requested questions.

    Attributes:
        questions: Ids and ranges separated by commas, `@FILE`, `failed:RUN` or `wrong:RUN`. None
            means all.
        limit: The most questions, drawn over the videos.
        shuffle: Seed of the draw. If it is given, questions are also played in the drawn order.

    Raises:
        SpecError: A value is out of range.
    """

    questions: str | None = None
    limit: int | None = None
    shuffle: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.limit is not None and self.limit < 1:
            raise SpecError(f"--limit must be at least 1, got {self.limit}.")

    @property
    def draw(self) -> str:
        """A hash of how questions are drawn, for a run's identity."""
        return short_hash(f"over videos, seed {self.shuffle or 0}")


@dataclass(frozen=True)
class Chosen:
    """The questions to play.

    Attributes:
        tasks: The questions, in the order of the dataset.
        qids: Their ids, as text.
        order: Indices of `tasks` in the order of play.
        note: A note for the user, or empty.
    """

    tasks: Sequence[Task]
    qids: Sequence[str]
    order: Sequence[int]
    note: str = ""

    def record(self, selection: QuestionSelection) -> dict[str, object]:
        """The selection in plain values, and a hash of the chosen ids."""
        return {
            "questions": selection.questions,
            "limit": selection.limit,
            "shuffle": selection.shuffle,
            "ids": short_hash("\n".join(self.qids)),
        }


def choose(
    dataset: Dataset,
    selection: QuestionSelection,
    digests: QuestionDigests,
    folder: Path | None = None,
) -> Chosen:
    """The questions to play.

    Args:
        dataset: All questions.
        selection: The requested questions.
        digests: Digests of each question, to check that another run has the same questions.
        folder: The run's folder. In a run of an earlier release, --limit keeps the first N.

    Raises:
        SpecError: A question, file or run does not exist, or no question is left.
    """
    n, limit = len(dataset), selection.limit
    places: Sequence[int] = range(n)
    if selection.questions is not None:
        places = _named(dataset, selection.questions, digests)
    if limit is not None and limit < len(places) and folder is not None:
        first = [str(dataset.qids[i]) for i in places[:limit]]
        if _took_first(folder, first):
            note = (
                f"{folder} was made by an earlier release, whose --limit took the first questions. "
                "The run continues in the same way."
            )
            tasks: Sequence[Task] = [dataset.tasks[i] for i in places[:limit]]
            return Chosen(tasks, first, range(limit), note)
    drawn = places
    if selection.shuffle is not None or (limit is not None and limit < len(places)):
        drawn = draw_order(dataset, places, selection.shuffle or 0)[:limit]
        places = sorted(drawn)
    if selection.shuffle is None:
        drawn = places
    rank = {place: i for i, place in enumerate(places)}
    whole = len(places) == n
    tasks = dataset.tasks if whole else [dataset.tasks[i] for i in places]
    qids = [str(dataset.qids[i]) for i in places]
    return Chosen(tasks, qids, [rank[place] for place in drawn])


def _took_first(folder: Path, first: Collection[str]) -> bool:
    """Whether the folder has a run of the first questions, made before `--limit` drew them."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if DRAW in config.get(IDENTITY, {}):
            return False
        return {qid for qid, _ in read_run(folder).episodes} <= set(first)
    except (OSError, ValueError, AttributeError, LongVideoEnvError):
        return False  # opening the run reports the error


def _named(dataset: Dataset, text: str, digests: QuestionDigests) -> list[int]:
    """Indices of the questions that `--questions` names, in the dataset's order."""
    at = {str(qid): i for i, qid in enumerate(dataset.qids)}
    kind, colon, run = text.partition(":")
    if colon and kind in _RUNS:
        names = _of_run(kind, Path(run), digests)
    elif text.startswith("@"):
        names = _of_file(Path(text[1:]))
    else:
        names = [part.strip() for part in text.split(",") if part.strip()]
    found: set[int] = set()
    for name in names:
        found.update(_places(name, at, dataset))
    if not found:
        raise SpecError(f"--questions {text} names no question. Fix: give ids, such as 12,40-60.")
    return sorted(found)


def _places(name: str, at: dict[str, int], dataset: Dataset) -> list[int]:
    if name in at:
        return [at[name]]
    if match := _RANGE.fullmatch(name):
        low, high = int(match[1]), int(match[2])
        inside = [i for qid, i in at.items() if qid.isdecimal() and low <= int(qid) <= high]
        if inside:
            return inside
    for cut in (i for i, char in enumerate(name) if char == "-"):
        ends = at.get(name[:cut]), at.get(name[cut + 1 :])
        if ends[0] is not None and ends[1] is not None:
            return list(range(ends[0], ends[1] + 1))
    close = get_close_matches(name, at, n=3) or list(at)[:3]
    raise SpecError(
        f"--questions: no question {name!r} among the {len(at):,} of {dataset.name}, split "
        f"{dataset.split}. Examples of ids: {', '.join(close)}. Fix: give ids as "
        "`longvideo-env show` prints them."
    )


def _of_file(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--questions: {path} cannot be read ({error}). Fix: give a text file with one id per "
            "line."
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _of_run(kind: str, folder: Path, digests: QuestionDigests) -> list[str]:
    run = read_run(folder)
    found = [t for t in run.episodes.values() if t.status == "failed"]
    if kind == "wrong":
        found = [t for t in run.episodes.values() if t.correct is False]
    qids = list(dict.fromkeys(str(t.qid) for t in found))
    if not qids:
        what = "failed" if kind == "failed" else "was answered wrong"
        raise SpecError(f"--questions {kind}:{folder}: no question {what} there.")
    _check_same(run, qids, digests)
    return qids


def _check_same(run: Run, qids: Sequence[str], digests: QuestionDigests) -> None:
    if not run.questions:
        return
    shown, _ = changed_questions(run.questions, digests, qids)
    if shown:
        raise SpecError(
            f"--questions: {run.folder} was played with other questions under the same ids: "
            f"{name_some(shown)}. Fix: give the dataset that it was played on."
        )
