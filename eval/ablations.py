r"""Play a split with one policy, as configured and with single parts removed or changed.

    longvideo-env ablations --policy hf:runs/grpo-mini --dataset mini --split test --out runs/abl
    longvideo-env ablations --policy teacher:mini:0:0 --dataset mini --out runs/abl \
        --variant full --variant no-vision

The options are those of `longvideo-env evaluate`. They describe the variant `full`. Each other
variant changes one option. Each variant is a run with its own folder under --out. `ablations.json`
and `ablations.md` hold the table. A variant that changes nothing (`window-1` if --window is 1) is
not played again: its row is that of `full`. The same command resumes an interrupted run.

Each variant is compared with `full` question by question. Interval and p are clustered by video. p
is Holm's for all variants. All variants share one recording of tool calls (`recording.sqlite` under
--out, or --recording-file), so the same call gets the same reply in each of them.

A removed tool is also removed from the prompt. If a policy still asks for it, the turn is spent.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.box import MARKDOWN
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.generation.settings import GenerationSettings
from eval.metrics.intervals import few_videos
from eval.metrics.pairs import add_holm, count_folders
from eval.metrics.summary import accuracy_interval
from eval.output.comparisons import format_p, format_signed_interval, power_notes
from eval.output.formatting import format_interval, format_number
from eval.runs.failures import failure_lines
from eval.runs.progress import EpisodeProgress
from eval.runs.run_options import RECORDING, RunOptions, build_parser, read_options
from eval.runs.session import open_session, play_split, print_skipped
from eval.runs.variants import FULL, Variant, add_variant_option, choose_variants
from longvideo_env import EnvConfig
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import markdown_lines, output_console
from longvideo_env.records.files import write_json, write_text

VARIANTS = (
    Variant(FULL, "as configured"),
    Variant("no-vision", "--vision none", {"vision": "none"}),
    Variant(
        "no-grounding",
        "--no-ground-action: the first clip is as configured, and the policy cannot ask for others",
        {"ground_action": False},
    ),
    *(Variant(f"max-turns-{k}", f"--max-turns {k} (K={k})", {"max_turns": k}) for k in (1, 2, 5)),
    *(Variant(f"window-{n}", f"--window {n}", {"window": n}) for n in (1, 2, 3)),
)


@dataclass(frozen=True)
class Row:
    """A variant that was played.

    Attributes:
        variant: The variant.
        played_as: The name of the variant whose episodes it uses: its own, or `full`.
        summary: The summary of these episodes.
        against_full: Its difference to `full`, from `eval.metrics.pairs.count`. None for `full`
            itself, or if `full` was not played.
    """

    variant: Variant
    played_as: str
    summary: dict[str, Any]
    against_full: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """Its name, with a note if it uses the episodes of `full`."""
        own = self.played_as == self.variant.name
        return self.variant.name if own else f"{self.variant.name} (= {self.played_as})"


def parse_options(
    argv: Sequence[str] | None,
) -> tuple[list[Variant], RunOptions, EnvConfig, GenerationSettings]:
    """Read the command line.

    Raises:
        SpecError: An option is invalid.
    """
    parser = build_parser("longvideo-env ablations", __doc__, several=False)
    add_variant_option(parser, VARIANTS, "Play only this one of the above")
    options = vars(parser.parse_args(argv))
    variants = choose_variants(VARIANTS, options["variant"])
    return variants, *read_options(options)


async def play_variants(
    variants: Sequence[Variant],
    run: RunOptions,
    config: EnvConfig,
    settings: GenerationSettings,
    stderr: Console,
) -> list[Row]:
    """Play each variant once and return the rows of the table."""
    (policy,) = run.policies
    config = share_recording(config, run.out)
    print_skipped(open_session(run, config, settings).dataset, stderr)
    summaries: dict[str, dict[str, Any]] = {}
    rows = []
    with EpisodeProgress(stderr) as progress:
        for variant in variants:
            changed = variant.config(config)
            name = FULL if changed == config else variant.name
            if name not in summaries:
                session = open_session(run, changed, settings)
                summaries[name] = await play_split(policy, session, run.out / name, progress, name)
            rows.append(Row(variant, name, summaries[name]))
    compared = compare_with_full(run.out, list(summaries))
    rows = [replace(row, against_full=compared.get(row.played_as)) for row in rows]
    for line in (*progress.notes, *(s for row in summaries.values() for s in failure_lines(row))):
        stderr.print(line, markup=False, highlight=False, soft_wrap=True)
    return rows


def share_recording(config: EnvConfig, out: Path) -> EnvConfig:
    """The options, with a recording that all variants share unless they already name one."""
    if config.recording != "off":
        return config
    return replace(config, recording="reuse", recording_file=str(out / RECORDING))


def compare_with_full(out: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The difference of each variant to `full`, with Holm's p for all of them."""
    counted = {name: count_folders(out / FULL, out / name) for name in names if name != FULL}
    found = {name: numbers for name, numbers in counted.items() if numbers is not None}
    add_holm(list(found.values()))
    return found


def make_table(rows: Sequence[Row], **style: Any) -> Table:
    """A table with one row per variant and one column per kind of question.

    Args:
        rows: The variants.
        style: Arguments of `rich.table.Table`.
    """
    shows = sorted({show for row in rows for show in row.summary["by_show"]})
    table = Table(**style)
    table.add_column("variant", no_wrap=True)
    headings = [escape(show.removeprefix("mini:")) for show in shows]
    for heading in ("accuracy", "95% CI", *headings, "turns", "failed", "n"):
        table.add_column(heading, justify="right")
    for row in rows:
        summary = row.summary
        by_show = summary["by_show"]
        table.add_row(
            row.label,
            format_number(summary["accuracy"]),
            format_interval(accuracy_interval(summary)),
            *(format_number(by_show[s]["accuracy"] if s in by_show else None) for s in shows),
            format_number(summary["mean_turns"], 2),
            str(summary["n_failed"]),
            str(summary["n_finished"]),
        )
    return table


def make_comparisons(rows: Sequence[Row], **style: Any) -> Table:
    """A table of the played variants' differences to `full`, question by question.

    Args:
        rows: The variants.
        style: Arguments of `rich.table.Table`.
    """
    table = Table(**style)
    table.add_column("variant", no_wrap=True)
    for heading in ("variant - full", "95% CI", "p (Holm)", "detectable", "videos", "n"):
        table.add_column(heading, justify="right")
    for row in compared(rows):
        numbers = row.against_full
        assert numbers is not None
        table.add_row(
            row.variant.name,
            f"{numbers['difference']:+.3f}",
            format_signed_interval(numbers["difference_ci95"]),
            format_p(numbers["p_holm"]),
            format_number(numbers["detectable"]),
            str(numbers["n_videos"]),
            str(numbers["n"]),
        )
    return table


def compared(rows: Sequence[Row]) -> list[Row]:
    """The variants that were compared with `full`, without repeats of the same episodes."""
    return list({row.played_as: row for row in reversed(rows) if row.against_full}.values())[::-1]


def table_notes(rows: Sequence[Row]) -> list[str]:
    """Notes that explain the table."""
    found = compared(rows)
    few = few_videos(rows[0].summary["n_videos"]) if rows[0].summary["n_scored"] else None
    how = (
        f"variant - full: on the same questions. p is Holm's, for {len(found)} comparisons. "
        "detectable: the smallest difference that this many videos find four times in five."
    )
    power = power_notes({row.variant.name: row.against_full for row in found})
    return [line for line in (found and how, *power, few) if line]


def write_report(rows: Sequence[Row], run: RunOptions, config: EnvConfig) -> None:
    """Write `ablations.json` and `ablations.md` into the folder of all variants."""
    (policy,) = run.policies
    numbers = {
        "policy": policy,
        "dataset": config.dataset,
        "split": config.split,
        "seed": run.seed,
        "variants": {
            row.variant.name: {
                "changes": dict(row.variant.changes),
                "played_as": row.played_as,
                "summary": row.summary,
                "against_full": row.against_full,
            }
            for row in rows
        },
    }
    write_json(run.out / "ablations.json", numbers)
    against = ["", *markdown_lines(make_comparisons(rows, box=MARKDOWN))] if compared(rows) else []
    lines = [
        f"# {heading(run, config)}",
        "",
        *markdown_lines(make_table(rows, box=MARKDOWN)),
        *against,
        "",
        *(line for note in table_notes(rows) for line in (note, "")),
        *(f"- `{row.variant.name}`: {row.variant.help}" for row in rows),
    ]
    write_text(run.out / "ablations.md", "\n".join(lines) + "\n")


def heading(run: RunOptions, config: EnvConfig) -> str:
    """The policy, dataset and split in one line."""
    oracle = ", oracle grounding" if config.grounding == "oracle" else ""
    return f"{run.policies[0]} on {config.dataset}, split {config.split}{oracle}"


def _run(argv: Sequence[str] | None) -> int:
    variants, run, config, settings = parse_options(argv)
    stderr, stdout = Console(stderr=True), output_console()
    rows = asyncio.run(play_variants(variants, run, config, settings, stderr))
    write_report(rows, run, config)
    stdout.print(make_table(rows, title=escape(heading(run, config)), title_justify="left"))
    if compared(rows):
        stdout.print(make_comparisons(rows))
    for line in table_notes(rows):
        stdout.print(line, highlight=False, markup=False, soft_wrap=True)
    stdout.print(
        f"Episodes, summaries, ablations.json and ablations.md: {run.out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return EXIT_FINDINGS if any(row.summary["n_failed"] for row in rows) else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("ablations", lambda: _run(argv), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
