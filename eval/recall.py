r"""Measure how often grounding agents find the clip that shows the answer.

    longvideo-env recall DATASET --split val --grounding bm25 --grounding embed:FOLDER

Each agent gets the question and its options. It is asked for the first clip, then for another, and
so on. The table has:

- recall@k for k = 1, 3 and 5: the share of questions whose gold clip is among the first k clips;
- MRR: the mean of 1 / the rank of the gold clip, 0 beyond --depth;
- span@k for k = 1 and 5: the share of the gold seconds that are in the first k clips.

Intervals are clustered by video. Differences are to the first agent, on the same questions.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eval.metrics.intervals import clustered_share
from eval.metrics.paired import clustered_difference
from eval.output.formatting import format_interval
from longvideo_env import Dataset, EnvConfig
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import message_prefix, progress_bar, run_command
from longvideo_env.commands.splits import SPLIT_HELP, open_split
from longvideo_env.commands.typeset import output_console
from longvideo_env.errors import SpecError
from longvideo_env.records.files import write_json
from longvideo_env.schema import Gold, Task, Video
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import ToolCall
from longvideo_env.tools.toolbox import Toolbox

AT = (1, 3, 5)
DEPTH = 10
_GIVEN_UP = 3
"""An agent stops after this many failures at the start, because it would always fail."""


@dataclass(frozen=True)
class Found:
    """The clips that an agent named for a question.

    Attributes:
        task: The question.
        clips: Ids of the clips, best first.
    """

    task: Task
    clips: tuple[str, ...]

    @property
    def place(self) -> int | None:
        """The rank of the first gold clip, from 1. None if no gold clip was named."""
        gold = self.task.gold.clip_ids
        return next((i for i, clip_id in enumerate(self.clips, 1) if clip_id in gold), None)

    def hit(self, k: int) -> bool:
        """Whether a gold clip is among the first `k`."""
        return self.place is not None and self.place <= k

    def covered(self, k: int) -> float | None:
        """The share of the gold seconds in the first `k` clips. None without gold seconds."""
        spans = gold_spans(self.task.gold)
        total = sum(end - start for _, start, end in spans)
        if total <= 0:
            return None
        return sum(end - start for clip, start, end in spans if clip in self.clips[:k]) / total


def gold_spans(gold: Gold) -> tuple[tuple[str, float, float], ...]:
    """Every stretch of time that shows the answer, as `(clip_id, start_s, end_s)`."""
    if gold.clues:
        return gold.clues
    if gold.clip_id is None or gold.span is None:
        return ()
    return ((gold.clip_id, *gold.span),)


async def ask_agent(
    toolbox: Toolbox, task: Task, video: Video, depth: int, seed: int
) -> tuple[str, ...]:
    """The clips that an agent names for a question, best first.

    Raises:
        SpecError: The agent failed. The message says why.
    """
    named: list[str] = []
    for turn in range(min(depth, len(video.clips))):
        call = ToolCall(
            task.question,
            video,
            "ground",
            view=tuple(named[-1:]),
            visited=tuple(named),
            seed=(seed, str(task.qid), turn),
        )
        result = await toolbox.call(call)
        if result.reply is None or result.reply.clip is None:
            raise SpecError(str(result.error))
        named.append(result.reply.clip)
        if named[-1] in task.gold.clip_ids and len(named) >= max(AT):
            break  # clips after the gold clip change no figure
    return tuple(named)


async def ask_all(
    spec: str, dataset: Dataset, tasks: Sequence[Task], options: argparse.Namespace
) -> tuple[list[Found], Counter[str]]:
    """The clips that an agent names for every question, and its errors."""
    config = EnvConfig(dataset=options.dataset, grounding=spec, vision="none", tools="ground")
    toolbox = build_toolbox(config, dataset)
    found: dict[int, Found] = {}
    errors: Counter[str] = Counter()
    todo = iter(enumerate(tasks))
    with progress_bar() as bar:
        shown = bar.add_task(spec, total=len(tasks))

        async def work() -> None:
            for i, task in todo:
                if not found and errors.total() >= _GIVEN_UP:
                    return
                try:
                    clips = await ask_agent(
                        toolbox, task, dataset.video(task), options.depth, options.seed
                    )
                    found[i] = Found(task, clips)
                except SpecError as error:
                    errors[str(error)] += 1
                bar.advance(shown)

        await asyncio.gather(*(work() for _ in range(min(options.concurrency, len(tasks)))))
    return [found[i] for i in sorted(found)], errors


def measure(found: Sequence[Found]) -> dict[str, Any]:
    """The figures of an agent, each with its interval.

    Returns:
        `n`, and for `recall@K`, `mrr` and `span@K` a list `[value, interval or None]`.
    """
    videos = [f.task.question.video_id for f in found]
    numbers: dict[str, Any] = {"n": len(found)}
    for k in AT:
        hits = [f.hit(k) for f in found]
        numbers[f"recall@{k}"] = [_mean(hits), _interval(hits, videos)]
    ranks = reciprocal_ranks(found)
    numbers["mrr"] = [_mean(ranks), _interval(ranks, videos)]
    for k in (AT[0], AT[-1]):
        known = [(f, share) for f in found if (share := f.covered(k)) is not None]
        shares = [share for _, share in known]
        clusters = [f.task.question.video_id for f, _ in known]
        numbers[f"span@{k}"] = [_mean(shares), _interval(shares, clusters)]
    return numbers


def reciprocal_ranks(found: Sequence[Found]) -> list[float]:
    """1 / the rank of the gold clip, or 0 if it was not named."""
    return [1 / f.place if f.place else 0.0 for f in found]


def difference(a: Sequence[Found], b: Sequence[Found]) -> dict[str, Any]:
    """B - A on the questions that both were asked, with clustered intervals."""
    mine = {str(f.task.qid): f for f in a}
    pairs = [(mine[str(f.task.qid)], f) for f in b if str(f.task.qid) in mine]
    videos = [f.task.question.video_id for f, _ in pairs]
    numbers: dict[str, Any] = {"n": len(pairs)}
    values = {
        **{f"recall@{k}": [float(y.hit(k)) - float(x.hit(k)) for x, y in pairs] for k in AT},
        "mrr": [
            reciprocal_ranks([y])[0] - reciprocal_ranks([x])[0] for x, y in pairs
        ],
    }  # fmt: skip
    for name, gaps in values.items():
        numbers[name] = [_mean(gaps), clustered_difference(gaps, videos).interval if gaps else None]
    return numbers


def _interval(shares: Sequence[Any], clusters: Sequence[str]) -> tuple[float, float] | None:
    """The clustered interval of numbers from 0 to 1."""
    return clustered_share(shares, clusters) if shares else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def print_table(
    numbers: dict[str, Any], differences: dict[str, Any], depth: int, console: Console
) -> None:
    """Print a table with one row per agent, then the differences to the first."""
    columns = [*(f"recall@{k}" for k in AT), "mrr", f"span@{AT[0]}", f"span@{AT[-1]}"]
    table = Table(title="95 % intervals, clustered by video")
    for name in ("grounding", "n", *(f"MRR@{depth}" if c == "mrr" else c for c in columns)):
        left = name == "grounding"
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for spec, row in numbers.items():
        table.add_row(
            escape(spec), f"{row['n']:,}", *(_cell(column, *row[column]) for column in columns)
        )
    console.print(table)
    first = next(iter(numbers))
    for spec, row in differences.items():
        cells = ", ".join(
            f"{name} {value:+.3f} ({_signed(interval)})"
            for name, (value, interval) in ((n, row[n]) for n in ("recall@1", "recall@5", "mrr"))
            if value is not None
        )
        line = f"{spec} - {first}, {row['n']:,} questions: {cells}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cell(column: str, mean: float | None, interval: Sequence[float] | None) -> str:
    if mean is None:
        return "-"
    # The intervals of span@k are only in the JSON file. They would make the table too wide.
    known = interval is not None and not column.startswith("span")
    return f"{mean:.3f} ({format_interval(interval)})" if known else f"{mean:.3f}"


def _signed(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        "longvideo-env recall",
        __doc__,
        tables=True,
        findings="an agent failed on some questions",
    )
    add = parser.add_argument
    add("dataset", help="Dataset, as for evaluate.")
    add("--split", help=SPLIT_HELP)
    add("--grounding", action="append", metavar="SPEC", help="An agent. May be repeated.")
    add(
        "--depth", type=int, default=DEPTH, help="Number of clips to ask for. Default: %(default)s."
    )
    add("--limit", type=int, metavar="N", help="Only the first N questions.")
    add("--seed", type=int, default=0, help="Seed of random agents. Default: 0.")
    add("--concurrency", type=int, default=16, help="Questions at once. Default: %(default)s.")
    add("--skip-invalid", action="store_true", help="Leave invalid rows out.")
    add("--json", type=Path, metavar="FILE", help="Also write the numbers into this file.")
    return parser


def _run(options: argparse.Namespace) -> int:
    specs = list(dict.fromkeys(options.grounding or ["bm25"]))
    if options.depth < max(AT) or options.concurrency < 1:
        raise SpecError(f"--depth must be at least {max(AT)} and --concurrency at least 1.")
    if "none" in specs:
        raise SpecError("--grounding none names no clip. Fix: name an agent.")
    dataset = open_split(options.dataset, options.split, skip_invalid=options.skip_invalid)
    console, stderr = output_console(), Console(stderr=True, soft_wrap=True)
    tasks = [task for task in islice(dataset.tasks, options.limit) if task.gold.clip_ids]
    left_out = len(list(islice(dataset.tasks, options.limit))) - len(tasks)
    if not tasks:
        raise SpecError("no question has a gold clip, so nothing can be measured.")
    named, numbers, failed = {}, {}, 0
    for spec in specs:
        named[spec], errors = asyncio.run(ask_all(spec, dataset, tasks, options))
        numbers[spec] = measure(named[spec])
        numbers[spec]["n_failed"] = len(tasks) - len(named[spec])
        failed += numbers[spec]["n_failed"]
        for error, n in errors.most_common(3):
            stderr.print(
                f"{message_prefix('recall')}{spec} failed ({n:,}): {error}",
                markup=False,
                highlight=False,
            )
    gaps = {spec: difference(named[specs[0]], named[spec]) for spec in specs[1:]}
    print_table(numbers, gaps, options.depth, console)
    if left_out:
        console.print(f"left out: {left_out:,} questions without a gold clip", highlight=False)
    for spec in specs:
        if numbers[spec]["n_failed"]:
            text = f"{spec}: {numbers[spec]['n_failed']:,} of {len(tasks):,} questions failed"
            console.print(text, markup=False, highlight=False)
    if options.json is not None:
        write_json(options.json, {"agents": numbers, "differences": gaps, "left_out": left_out})
    return EXIT_FINDINGS if failed else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    options = build_parser().parse_args(argv)
    return run_command("recall", lambda: _run(options))


if __name__ == "__main__":
    sys.exit(main())
