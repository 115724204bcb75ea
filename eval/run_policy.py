r"""Play the questions of a split with one or more policies, and print their figures.

    longvideo-env evaluate --policy scripted:ground-look-answer --policy random --out runs/demo
    longvideo-env evaluate --policy hf:runs/grpo-tiny --dataset DIR --split val --out runs/tiny
    longvideo-env evaluate --policy teacher:mini --dataset mini --seed 3 --out runs/mini
    longvideo-env evaluate --policy openai:gpt-4o --grounding openai:gpt-4o-mini \
        --vision openai:gpt-4o,frames=16 --dataset DIR --samples 4 --recording reuse --out runs/api
    longvideo-env evaluate --policy random --dataset DIR --shard 1/4 --out runs/random
    longvideo-env evaluate --policy openai:gpt-4o --dataset DIR --limit 500 --shuffle 1 \
        --budget-usd 5 --fail-above 0.1 --out runs/first
    longvideo-env evaluate --policy random --dataset DIR --questions wrong:runs/first/random

Each policy gets a folder under --out. It holds `episodes.jsonl` (one line per episode, written as
episodes finish), `summary.json` and `config.json`. The same command resumes an interrupted run and
plays failed episodes again. Ctrl-C, SIGTERM or a crash lose only the episodes in flight.

With --shard each part has its own folder, and `longvideo-env merge` joins them. `longvideo-env
compare` compares two folders. `longvideo-env rescore` computes rewards and metrics again without
any model.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.generation.settings import GenerationSettings
from eval.metrics.answer_forms import answer_lines
from eval.metrics.benchmark_groups import group_lines
from eval.metrics.cost import money_line
from eval.metrics.intervals import few_videos
from eval.metrics.judge_agreement import judge_lines
from eval.metrics.named_options import named_lines
from eval.metrics.summary import accuracy_interval
from eval.output.formatting import format_interval, format_number
from eval.runs.checkpoints import draw_curve, short_name
from eval.runs.failures import blind_mark, failure_lines, stopped_mark
from eval.runs.naming import run_folder
from eval.runs.progress import EpisodeProgress
from eval.runs.run_options import RunOptions, build_parser, read_options
from eval.runs.session import Session, open_session, play_split, print_skipped
from longvideo_env import EnvConfig
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.datasets.coverage import Coverage


def parse_options(argv: Sequence[str] | None) -> tuple[RunOptions, EnvConfig, GenerationSettings]:
    """Read the command line.

    Raises:
        SpecError: An option is invalid.
    """
    parser = build_parser(
        "longvideo-env evaluate",
        __doc__,
        several=True,
        findings="some episodes, or their judge, failed, or the run was stopped early",
    )
    return read_options(vars(parser.parse_args(argv)))


def print_table(summaries: Sequence[dict[str, Any]], console: Console) -> None:
    """Print a table of the runs."""
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
            escape(short_name(row["policy"])) + marks(row),
            format_number(row["accuracy"]),
            format_interval(accuracy_interval(row)),
            format_number(row["grounding_accuracy"]),
            format_number(row["grounding_accuracy_first"]),
            format_number(row["mean_turns"], 2),
            format_number(row["malformed_rate"]),
            str(row["n_failed"]),
            scored_of(row),
            f"{row['wall_s']:.1f}",
        )
    console.print(table)
    for note in dict.fromkeys(few_videos(row["n_videos"]) for row in summaries if row["n_scored"]):
        if note is not None:
            say(console, note)


def marks(row: Mapping[str, Any]) -> str:
    """Marks beside a policy's name: agents were given gold, rows were left out, and so on."""
    oracle, leaky = " (oracle)" * bool(row["oracle"]), " (leaky)" * bool(row.get("leaky"))
    lost = Coverage(**row["coverage"]).large_loss if "coverage" in row else ""
    said = (lost, blind_mark(row), stopped_mark(row))
    return oracle + leaky + "".join(f" ({mark})" for mark in said if mark)


def scored_of(row: Mapping[str, Any]) -> str:
    """The number of episodes played, and of those scored if some have no gold answer."""
    played, scored = row["n_finished"], row["n_scored"]
    return str(played) if scored == played - row["n_failed"] else f"{scored} of {played} scored"


def print_samples(summaries: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the figures of several samples per question, if there are several."""
    several = [row for row in summaries if row["samples"]["n"] > 1]
    if not several:
        return
    table = Table(title=None)
    names = ("policy", "n", "avg@n", "pass@n", "95% CI", "pass^n", "95% CI", "majority@n", "95% CI")
    for name in (*names, "same answer", "questions"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for row in several:
        scores = row["samples"]
        with_intervals = (
            text
            for name in ("pass", "all", "majority")
            for text in (format_number(scores[name]), format_interval(scores[f"{name}_ci95"]))
        )
        table.add_row(
            escape(short_name(row["policy"])) + marks(row),
            str(scores["n"]),
            format_number(scores["avg"]),
            *with_intervals,
            format_number(scores["same"]),
            str(scores["n_questions"]),
        )
    console.print(table)
    for row in several:
        for line in sample_lines(row["samples"]):
            say(console, f"{row['policy']}: {line}")


def sample_lines(scores: Mapping[str, Any]) -> list[str]:
    """Lines of pass@k and pass^k by k, and of questions with too few samples."""
    lines = []
    for name, key in (("pass@k", "pass"), ("pass^k", "all")):
        parts = [f"k = {k} {format_number(found[key])}" for k, found in scores["by_k"].items()]
        lines.append(f"{name}: {', '.join(parts)}")
    if n := scores["n_incomplete"]:
        lines.append(
            f"{n:,} of {scores['n_questions']:,} questions have fewer than {scores['n']} samples "
            "that did not fail. They are left out of pass@k and pass^k for larger k"
        )
    return lines


def print_accounts(summaries: Sequence[dict[str, Any]], session: Session, console: Console) -> None:
    """Print the models' usage, and the recording's share of answered calls."""
    for row in summaries:
        used = row["usage"]["total"]
        if used["requests"]:
            say(
                console,
                f"{row['policy']}: {used['requests']:,} requests, {used['prompt_tokens']:,} + "
                f"{used['completion_tokens']:,} tokens, {money_line(row)}",
            )
        if "frames" in row:
            say(console, f"{row['policy']}: {seen_line(row['frames'])}")
    recording = session.toolbox.recording
    if recording is None:
        return
    counts = {"tool calls": recording.stats, "replies of the policy": recording.policy_stats}
    for what, stats in counts.items():
        if stats.hit_rate is not None:
            say(
                console,
                f"recording ({recording.mode}), {what}: hit rate {stats.hit_rate:.3f}: {stats}",
            )


def seen_line(frames: Mapping[str, int]) -> str:
    """A line about the frames that a master saw and did not see."""
    said = f"{frames['shown']:,} frames were shown to it"
    if frames["unreadable"]:
        said += f"; {frames['unreadable']:,} times a file was left out because it is broken"
    if frames["views_without"]:
        said += f"; {frames['views_without']:,} views have no frames"
    return said


def say(console: Console, text: str) -> None:
    """Print a plain line."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


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
    blind = dict.fromkeys(gap["text"] for row in summaries for gap in row.get("blind", ()))
    failed = (line for row in summaries for line in failure_lines(row))
    for line in (*progress.notes, *blind, *failed):
        say(console, line)
    print_samples(summaries, console)
    print_accounts(summaries, session, console)
    for line in session.dataset.coverage.lines():
        say(console, line)
    for row in summaries:
        for line in (*named_lines(row), *answer_lines(row), *judge_lines(row), *group_lines(row)):
            say(console, f"{row['policy']}: {line}")
    for picture in draw_curve(summaries, run.out / "accuracy_by_step"):
        say(console, f"accuracy against steps: {picture}")
    say(console, f"Episodes and summaries: {run.out}")
    unfinished = any(
        row["n_failed"] or row.get("stopped") or (row.get("judge") or {}).get("n_failed")
        for row in summaries
    )
    return EXIT_FINDINGS if unfinished else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("evaluate", lambda: asyncio.run(run_all(*parse_options(argv))), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
