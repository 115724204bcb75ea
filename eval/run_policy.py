"""Play the questions of a split with one or more policies, and sum up how they did.

    python eval/run_policy.py --policy scripted:ground-look-answer --policy random --out runs/demo
    python eval/run_policy.py --policy hf:runs/grpo-tiny --dataset DIR --split val --out runs/tiny
    python eval/run_policy.py --policy teacher:mini --dataset mini --seed 3 --out runs/mini

Each policy gets a folder under --out: `episodes.jsonl` (one line an episode, written as they
finish), `summary.json` and `config.json`. The same command resumes an interrupted run, and plays
failed episodes again. `eval/compare.py` compares two such folders.

Exit codes: 0 done; 2 bad arguments or data; 3 finished, but some episodes failed; 130 interrupted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.settings import GenerationSettings
from eval.cli import EXIT_DONE, EXIT_FAILURES, parse_with_config, run_command
from eval.formatting import format_interval, format_number, output_console
from eval.options import RunOptions, build_parser, read_options
from eval.progress import EpisodeProgress
from eval.session import open_session, play_split, print_skipped
from eval.store import run_folder
from longvideo_env import EnvConfig


def parse_options(argv: Sequence[str] | None) -> tuple[RunOptions, EnvConfig, GenerationSettings]:
    """Read the command line.

    Raises:
        SpecError: An option has no meaning.
    """
    parser = build_parser("run_policy.py", __doc__, several=True)
    return read_options(parse_with_config(parser, argv))


def print_table(summaries: Sequence[dict[str, Any]], console: Console) -> None:
    """The runs side by side."""
    table = Table(title=None)
    table.add_column("policy")
    names = (
        "accuracy",
        "95% CI",
        "grounding",
        "first clip",
        "turns",
        "malformed",
        "failed",
        "n",
        "s",
    )
    for name in names:
        table.add_column(name, justify="right")
    for row in summaries:
        table.add_row(
            escape(row["policy"]) + (" (oracle)" if row["oracle"] else ""),
            format_number(row["accuracy"]),
            format_interval(row["accuracy_ci95"]),
            format_number(row["grounding_accuracy"]),
            format_number(row["grounding_accuracy_first"]),
            format_number(row["mean_turns"], 2),
            format_number(row["malformed_rate"]),
            str(row["n_failed"]),
            str(row["n_finished"]),
            f"{row['wall_s']:.1f}",
        )
    console.print(table)


async def run_all(run: RunOptions, config: EnvConfig, settings: GenerationSettings) -> int:
    """Run every policy and print the table. Returns the exit code."""
    session = open_session(run, config, settings)
    stderr = Console(stderr=True)
    print_skipped(session.dataset, stderr)
    summaries = []
    with EpisodeProgress(stderr) as progress:
        for spec in run.policies:
            folder = run_folder(run.out, spec, run.policies)
            summaries.append(await play_split(spec, session, folder, progress, label=spec))
    console = output_console()
    print_table(summaries, console)
    console.print(
        f"Episodes and summaries: {run.out}", highlight=False, markup=False, soft_wrap=True
    )
    return EXIT_FAILURES if any(row["n_failed"] for row in summaries) else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("run_policy", lambda: asyncio.run(run_all(*parse_options(argv))))


if __name__ == "__main__":
    sys.exit(main())
