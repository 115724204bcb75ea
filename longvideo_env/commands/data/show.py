"""Print questions of a dataset, and the parts of the dataset that were read.

    longvideo-env show mini -n 3 --split val
    longvideo-env show questions.csv -n 10

A line at the end counts what was read, and what was left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.splits import SPLIT_HELP, open_split
from longvideo_env.commands.typeset import output_console
from longvideo_env.datasets import Dataset
from longvideo_env.schema import Task


def question_lines(dataset: Dataset, task: Task) -> Iterator[str]:
    """A question with its options, its gold answer and its video."""
    question, gold = task.question, task.gold
    video = dataset.video(task)
    yield f"{question.qid}  {question.text}"
    for i, option in enumerate(question.options):
        yield f"  {'*' if gold.is_right(i) else ' '} a{i}: {option}"
    if gold.text is not None:
        yield f"  * {gold.text}"
    elif gold.answer is None:
        yield "    (no answer given)"
    n_lines = sum(len(clip.subtitles) for clip in video.clips)
    yield f"    video {video.video_id}: {len(video.clips):,} clips, {n_lines:,} lines of dialogue"
    if gold.clip_id is not None:
        span = "" if gold.span is None else f", {gold.span[0]:g}-{gold.span[1]:g} s in it"
        yield f"    shown in {gold.clip_id}{span}"
    if question.facts:
        yield f"    {', '.join(f'{name}: {value}' for name, value in question.facts)}"


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env show",
        description=__doc__,
    )
    add = parser.add_argument
    add("dataset", help="the dataset: a folder, a file, mini, NAME:FOLDER, hf:...")
    add("-n", type=int, default=5, help="number of questions")
    add("--split", help=SPLIT_HELP)
    add("--skip-invalid", action="store_true", help="leave invalid rows out")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)

    def show() -> None:
        dataset = open_split(args.dataset, args.split, skip_invalid=args.skip_invalid)
        console = output_console()
        for task in dataset.tasks[: max(0, args.n)]:
            for line in question_lines(dataset, task):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            console.print()
        console.print(repr(dataset), markup=False, highlight=False)
        for line in dataset.coverage.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return run_command("show", show)
