"""Measure how far simple tricks get in a dataset's questions without watching any video.

    longvideo-env leaks data/tvqa_plus_dev --split val

Each reader picks an option by a rule: the option that shares most words with some text, the longest
or shortest option, or the position that is right most often. If several options tie, the reader
gets the share of them that is right, so nothing is random. The table compares its accuracy with
chance. The 95 % interval is clustered by video (docs/statistics.md). With one video there is no
interval and no verdict.

An accuracy above chance means:

- from question, options or positions alone: part of the set can be answered without any video;
- from boxes: they name words of the right answer, so no agent may see them (here none does);
- from captions or subtitles of the gold clip: counting words in this text gets this far. Agents may
  read the text, so a score means little until it is well above that;
- from options that refer to others ("all of the above"): they are right more often than others.

The lines below the table say how often each position is right, and how many questions have equal
options.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from eval.metrics.intervals import clustered_share, few_videos
from eval.output.formatting import format_interval
from longvideo_env.choices import equal_options, pinned_options
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.splits import SPLIT_HELP, open_split
from longvideo_env.commands.typeset import output_console
from longvideo_env.datasets import Dataset
from longvideo_env.errors import SpecError
from longvideo_env.schema import Task

_WORD = re.compile(r"\w+(?:'\w+)?")
_WRITTEN_TEXT = ("captions of the gold clip", "subtitles of the gold clip")

Scores = Sequence[float]
"""One number per option. The reader picks the highest."""


@dataclass(frozen=True, slots=True)
class Leak:
    """The result of one reader.

    Attributes:
        reader: The text or rule that it uses.
        n: Number of questions that it applies to.
        right: Number of right answers. Tied options count with the share of them that is right.
        chance: The accuracy of random answers.
        interval: The ends of the 95 % interval of its accuracy, clustered by video. None with one
            video.
    """

    reader: str
    n: int
    right: float
    chance: float
    interval: tuple[float, float] | None

    @property
    def accuracy(self) -> float:
        """Share of its questions that it gets right."""
        return self.right / self.n

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval is above chance. False without an interval."""
        return self.interval is not None and self.interval[0] > self.chance


def measure_leaks(dataset: Dataset) -> list[Leak]:
    """Measure every reader on the questions whose answer is known.

    Args:
        dataset: The questions.

    Raises:
        SpecError: No question has a known answer.
    """
    tasks = [task for task in dataset if task.gold.answer is not None]
    if not tasks:
        raise SpecError(
            f"none of the {len(dataset):,} questions of {dataset.name}, split {dataset.split}, has "
            "a known answer. Fix: name a split that has answers."
        )
    readers: dict[str, Callable[[Task], Scores | None]] = {
        "words of the question": lambda task: _overlap(task, [task.question.text]),
        "boxes of the question": _box_scores,
        "captions of the gold clip": lambda task: _overlap(
            task, _clip_lines(dataset, task, "captions")
        ),
        "subtitles of the gold clip": lambda task: _overlap(
            task, _clip_lines(dataset, task, "subtitles")
        ),
        "the longest option": lambda task: [float(len(o)) for o in task.question.options],
        "the shortest option": lambda task: [-float(len(o)) for o in task.question.options],
        "the most frequent position": _position_reader(tasks),
        "options that point at others": _pointing_scores,
    }
    found = (_measure(name, reader, tasks) for name, reader in readers.items())
    return [leak for leak in found if leak is not None]


def _measure(
    name: str, reader: Callable[[Task], Scores | None], tasks: Sequence[Task]
) -> Leak | None:
    right: list[float] = []
    videos: list[str] = []
    chance = 0.0
    for task in tasks:
        scores = reader(task)
        if scores is None:
            continue
        best = [i for i, score in enumerate(scores) if score == max(scores)]
        right.append(sum(bool(task.gold.is_right(i)) for i in best) / len(best))
        videos.append(task.question.video_id)
        chance += 1 / len(scores)
    if not right:
        return None
    n = len(right)
    return Leak(name, n, sum(right), chance / n, clustered_share(right, videos))


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in _WORD.findall(text.lower())}


def _overlap(task: Task, texts: Sequence[str]) -> Scores | None:
    """Number of distinct words of each option that the texts contain. None without any text."""
    known = _words(texts)
    if not known:
        return None
    return [float(len(_words([option]) & known)) for option in task.question.options]


def _box_scores(task: Task) -> Scores | None:
    boxes = task.gold.boxes or {}
    labels = [
        str(box["label"])
        for frame in boxes.values()
        if isinstance(frame, list)
        for box in frame
        if isinstance(box, dict) and "label" in box
    ]
    return _overlap(task, labels)


def _clip_lines(dataset: Dataset, task: Task, kind: str) -> list[str]:
    video = dataset.video(task)
    clips = [video[clip_id] for clip_id in task.gold.clip_ids if clip_id in video]
    lines = (clip.captions if kind == "captions" else clip.subtitles for clip in clips)
    return [line.text for found in lines for line in found]


def _position_reader(tasks: Sequence[Task]) -> Callable[[Task], Scores | None]:
    """Find the position that is most often right in half of the questions. Test the other half."""
    counts = Counter(task.gold.answer for task in tasks[::2])
    tested = {str(task.qid) for task in tasks[1::2]}

    def read(task: Task) -> Scores | None:
        if str(task.qid) not in tested:
            return None
        return [float(counts[i]) for i in range(len(task.question.options))]

    return read


def _pointing_scores(task: Task) -> Scores | None:
    """Score options that refer to others. None if a question has none, or only such options."""
    options = task.question.options
    pinned = pinned_options(options)
    if not 0 < len(pinned) < len(options):
        return None
    return [float(i in pinned) for i in range(len(options))]


def option_lines(dataset: Dataset) -> list[str]:
    """The share of right answers per position with intervals, and notes about odd options."""
    tasks = [task for task in dataset if task.gold.answer is not None]
    videos = [task.question.video_id for task in tasks]

    def share(hits: Sequence[bool]) -> str:
        interval = format_interval(clustered_share(hits, videos))
        return f"{sum(hits) / len(hits):.3f} ({interval})"

    positions = range(max(len(task.question.options) for task in tasks))
    shares = [f"a{p} {share([task.gold.answer == p for task in tasks])}" for p in positions]
    longest = share([_is_longest(task) for task in tasks])
    lines = [
        f"right at position: {', '.join(shares)}",
        f"the right option is the longest of all: {longest}",
    ]
    pointing = sum(bool(pinned_options(task.question.options)) for task in dataset)
    equal = [task.qid for task in dataset if equal_options(task.question.options)]
    if pointing:
        lines.append(f"options that point at others: {pointing:,} questions, never shuffled")
    if equal:
        named = ", ".join(map(str, equal[:3])) + (", ..." if len(equal) > 3 else "")
        lines.append(f"equal options: {len(equal):,} questions ({named}), both count as right")
    return lines


def _is_longest(task: Task) -> bool:
    lengths = list(map(len, task.question.options))
    assert task.gold.answer is not None
    right = lengths.pop(task.gold.answer)
    return right > max(lengths, default=0)


def leak_table(leaks: Sequence[Leak]) -> Table:
    """A table of the readers."""
    table = Table("a reader that goes by")
    for name in ("accuracy", "95% CI", "chance", "n", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for leak in leaks:
        verdict = "above chance" if leak.above_chance else ""
        table.add_row(
            leak.reader,
            f"{leak.accuracy:.3f}",
            format_interval(leak.interval),
            f"{leak.chance:.3f}",
            f"{leak.n:,}",
            verdict,
        )
    return table


def warnings(leaks: Sequence[Leak]) -> list[str]:
    """Warnings about scores on this set."""
    found = []
    for leak in leaks:
        if not leak.above_chance:
            continue
        told = f"{leak.reader}: {leak.accuracy:.1%} right, chance is {leak.chance:.1%}"
        if leak.reader.startswith("boxes"):
            told += ". They give the answer away: never show them to an agent."
        elif leak.reader in _WRITTEN_TEXT:
            told += " by counting words. Compare scores with this, not with chance."
        else:
            told += ". This needs no video."
        found.append(told)
    return found


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env leaks",
        description=__doc__,
        tables=True,
        findings="with --strict, there is a warning",
    )
    add = parser.add_argument
    add("dataset", help="a folder, a file, mini, embedded, hf:...")
    add("--split", help=SPLIT_HELP)
    add("--skip-invalid", action="store_true", help="leave invalid rows out")
    add("--strict", action="store_true", help="exit with 3 if there is a warning")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("leaks", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    dataset = open_split(args.dataset, args.split, skip_invalid=args.skip_invalid)
    leaks = measure_leaks(dataset)
    console = output_console()
    console.print(
        f"{dataset.name}, split {dataset.split}: {len(dataset):,} questions", markup=False
    )
    console.print(leak_table(leaks))
    few = few_videos(len({t.question.video_id for t in dataset if t.gold.answer is not None}))
    for line in [*option_lines(dataset), *([few] if few else []), *dataset.coverage.lines()]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    found = warnings(leaks)
    for warning in found:
        sys.stderr.write(f"warning: {warning}\n")
    return EXIT_FINDINGS if found and args.strict else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
