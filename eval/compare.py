"""Compare two runs on the same questions: accuracy, groups of questions, and behaviour.

    longvideo-env compare runs/a/hf-grpo runs/b/hf-sft
    longvideo-env compare runs/a/hf-grpo runs/b/hf-sft --names grpo sft --json runs/compare.json

A run is a folder that `longvideo-env evaluate` wrote, or its `episodes.jsonl`. Episodes are matched
by question and sample. Episodes that failed in either run, or that only one run has, are left out
and counted.

The difference, its interval and its p are clustered by video. Up to 14 videos take the exact
sign-flip test, more videos take Student's t with the CR2 variance (docs/statistics.md). p is the
probability of a difference this large if both runs were equally good.

The tables below the totals have the same numbers for each show and each kind of question. Their p
is Holm's, because several comparisons at once find differences by chance.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.metrics.answer_forms import NAMES
from eval.metrics.pairs import Run, compare, differences, match, n_left_out, read_run
from eval.metrics.summary import accuracy_interval
from eval.output.comparisons import difference_lines, format_p, format_signed_interval
from eval.output.formatting import format_interval, format_number
from longvideo_env.commands.exit_codes import EXIT_DONE
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.records.files import write_json

BEHAVIOUR_ROWS = (
    ("grounded, first clip wrong", "called_grounding_first_wrong", 3),
    ("grounded, first clip right", "called_grounding_first_right", 3),
    ("looked", "looked", 3),
    ("turns", "mean_turns", 2),
    ("tool calls", "mean_tool_calls", 2),
)

GROUP_NOTE = (
    "p: Holm's, for as many comparisons as a table has rows. detectable: the smallest difference "
    "that this many videos find four times in five."
)


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        prog="longvideo-env compare",
        description=__doc__,
        tables=True,
    )
    for name in ("a", "b"):
        parser.add_argument(
            f"run_{name}",
            type=Path,
            metavar=f"RUN_{name.upper()}",
            help="A run's folder, or its episodes.jsonl.",
        )
    parser.add_argument(
        "--names",
        nargs=2,
        metavar=("A", "B"),
        help="Names of the runs. Default: their policies, or their folders if these are the same.",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="Also write the numbers into this file."
    )
    return parser


def print_comparison(numbers: dict[str, Any], console: Console) -> None:
    """Print the accuracies, the pairs, the shows and the behaviour."""
    names = [escape(numbers[side]["name"]) for side in ("a", "b")]
    table = _table("run", "accuracy", "95% CI", "n")
    for letter, name in zip("AB", names, strict=True):
        side = numbers[letter.lower()]
        table.add_row(
            f"{letter}: {name}",
            format_number(side["accuracy"]),
            format_interval(accuracy_interval(side)),
            str(numbers["n"]),
        )
    console.print(table)
    lines = (
        f"both right {numbers['both_right']}, A only {numbers['a_only']}, "
        f"B only {numbers['b_only']}, neither {numbers['neither']}",
        *difference_lines(numbers),
        *(
            f"{NAMES[name]} B - A: {one['difference']:+.3f} "
            f"({format_signed_interval(one['difference_ci95'])}), p = {format_p(one['p'])}"
            for name, one in numbers.get("answers", {}).items()
        ),
        f"left out: {numbers['n_left_out']} failed or unmatched",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    for part, label in (("by_show", "show"), ("by_kind", "kind")):
        if numbers[part]:
            console.print(_group_table(numbers, part, label))
    if numbers["by_show"] or numbers["by_kind"]:
        console.print(GROUP_NOTE, highlight=False, soft_wrap=True)
    console.print(_behaviour_table(numbers))


def _group_table(numbers: dict[str, Any], part: str, label: str) -> Table:
    columns = ("A", "B", "B - A", "95% CI", "n", "videos", "p (Holm)", "detectable")
    table = _table(label, *columns)
    for group, counts in numbers[part].items():
        table.add_row(
            escape(group),
            *(_accuracy(numbers[side][part].get(group)) for side in ("a", "b")),
            f"{counts['difference']:+.3f}",
            format_signed_interval(counts["difference_ci95"]),
            str(counts["n"]),
            str(counts["n_videos"]),
            format_p(counts["p_holm"]),
            format_number(counts["detectable"]),
        )
    return table


def _behaviour_table(numbers: dict[str, Any]) -> Table:
    sides = [numbers[side] for side in ("a", "b")]
    table = _table("behaviour (share of episodes, or mean)", "A", "B")
    for label, key, digits in BEHAVIOUR_ROWS:
        table.add_row(label, *(format_number(side["behaviour"][key], digits) for side in sides))
        if key == "looked":
            for show in numbers["by_show"]:
                shares = (format_number(side["by_show"][show]["looked"]) for side in sides)
                table.add_row(f"  {escape(show)}", *shares)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(title=None)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _accuracy(group: Mapping[str, Any] | None) -> str:
    return format_number(None if group is None else group["accuracy"])


def _names(a: Run, b: Run, wanted: Sequence[str] | None) -> Sequence[str]:
    policies = [str(run.config.get("policy")) for run in (a, b)]
    if wanted is None and policies[0] == policies[1]:
        return [str(run.folder) for run in (a, b)]
    return wanted or policies


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    a, b = read_run(options.run_a), read_run(options.run_b)
    stderr = Console(stderr=True, soft_wrap=True)
    for key, (mine, theirs) in differences(a, b).items():
        stderr.print(
            f"warning: the runs differ in {key}: A has {mine!r}, B has {theirs!r}. Questions with "
            "the same id may differ.",
            style="yellow",
            markup=False,
            highlight=False,
        )
    pairs = match(a, b)
    numbers = compare(pairs)
    numbers["n_left_out"] = n_left_out(a, b, pairs)
    names = _names(a, b, options.names)
    for side, run, name in zip(("a", "b"), (a, b), names, strict=True):
        numbers[side] = {"name": name, "folder": str(run.folder), **numbers[side]}
    print_comparison(numbers, output_console())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, numbers)
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("compare", lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
