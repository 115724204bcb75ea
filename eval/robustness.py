r"""Play the same questions with single parts removed or changed, to see what an accuracy rests on.

    longvideo-env robustness --policy hf:mini-starter --config configs/eval/mini.yaml --out runs/r
    longvideo-env robustness --policy openai:gpt-4o --dataset DIR --limit 300 --out runs/r \
        --variant full --variant no-question --variant shuffled-options

The options are those of `longvideo-env evaluate`. They describe the variant `full`. Every variant
plays the questions of `full` as a run with its own folder under --out. It is compared with `full`
question by question. Intervals are clustered by video. p is Holm's for the number of variants
played. A variant of the dataset is also a dataset (`variant:no-question@DIR`) that any command
takes.

A reply without a readable answer is wrong. `no-options` asks for free-text answers. Its exact match
and token F1 (docs/answers.md), and the verdict of --judge if one is given, are listed separately,
because they cannot be compared with choosing an option.

`robustness.json` and `robustness.md` hold the table. The same command resumes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from agents.generation.settings import GenerationSettings
from eval.metrics.answer_forms import mean_with_interval
from eval.metrics.intervals import few_videos
from eval.metrics.judge_agreement import judge_lines
from eval.metrics.pairs import add_holm, count, match, read_run
from eval.metrics.summary import accuracy_interval
from eval.output.comparisons import format_p, format_signed_interval, power_notes
from eval.output.formatting import format_interval, format_number
from eval.runs.failures import failure_lines
from eval.runs.progress import EpisodeProgress
from eval.runs.run_options import RunOptions, build_parser, read_options
from eval.runs.selection import QuestionSelection
from eval.runs.session import Session, open_session, play_split, print_skipped
from eval.runs.variants import FULL, Variant, add_variant_option, choose_variants
from longvideo_env import Dataset, EnvConfig
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import (
    Table,
    output_console,
    print_tables,
    to_latex,
    to_markdown,
)
from longvideo_env.config import NO_JUDGE
from longvideo_env.datasets.altered import NO_OPTIONS
from longvideo_env.errors import SpecError
from longvideo_env.game.matching import answer_scores
from longvideo_env.records.files import write_json, write_text
from longvideo_env.records.trajectory import Trajectory

VARIANTS = (
    Variant(FULL, "as configured"),
    Variant("no-vision", "--vision none", {"vision": "none"}),
    Variant("no-subtitles", "no clip has dialogue", of_dataset=True),
    Variant("no-question", "only asked which option is right", of_dataset=True),
    Variant("shuffled-options", "the options in an order drawn from --seed",
            {"shuffle_options": True}),
    Variant("lettered-labels", "options labelled A, B, ...", {"labels": "letters"}),
    Variant("numbered-labels", "options labelled 1, 2, ...", {"labels": "numbers"}),
    Variant("none-of-the-others", "the right option says that none of the others is right",
            of_dataset=True),
    Variant(NO_OPTIONS, "answers in words: exact match, token F1 and judge, apart",
            of_dataset=True),
)  # fmt: skip


@dataclass(frozen=True)
class PlayedVariant:
    """A variant that was played.

    Attributes:
        variant: The variant.
        summary: The summary of its run.
        against: Its difference to `full`, from `eval.metrics.pairs.count`. None for `full`, or if
            nothing could be paired.
        exact: For `no-options`: `(share, interval, n)` of exact matches.
        apart: For `no-options`: its other measures by name, in the same form.
        left_out: Number of questions of `full` that the variant cannot ask.
    """

    variant: Variant
    summary: dict[str, Any]
    against: dict[str, Any] | None = None
    exact: tuple[float, Sequence[float] | None, int] | None = None
    left_out: int = 0
    apart: Mapping[str, tuple[float, Sequence[float] | None, int]] = field(default_factory=dict)


async def play_all(
    variants: Sequence[Variant],
    run: RunOptions,
    config: EnvConfig,
    settings: GenerationSettings,
    stderr: Console,
) -> list[PlayedVariant]:
    """Play the variants on the questions of `full`."""
    (policy,) = run.policies
    full = open_session(run, config, settings)
    print_skipped(full.dataset, stderr)
    asked = full.choose(run.out / FULL).chosen.qids
    whole = len(asked) == len(full.dataset)
    played: list[PlayedVariant] = []
    with EpisodeProgress(stderr) as progress:
        for variant in variants:
            session, n_asked = full, len(asked)
            if variant.name != FULL:
                session, n_asked = _open(variant, run, config, settings, asked, whole)
            if not n_asked:
                stderr.print(f"{variant.name}: it cannot ask any of the questions.", markup=False)
                continue
            folder = run.out / variant.name
            summary = await play_split(policy, session, folder, progress, variant.name)
            played.append(_row(variant, summary, run.out, session.dataset, len(asked) - n_asked))
    for line in (*progress.notes, *(s for row in played for s in failure_lines(row.summary))):
        stderr.print(line, markup=False, highlight=False, soft_wrap=True)
    return played


def _open(
    variant: Variant,
    run: RunOptions,
    config: EnvConfig,
    settings: GenerationSettings,
    asked: Sequence[str],
    whole: bool,
) -> tuple[Session, int]:
    """A session with those questions of `full` that the variant has."""
    changed = variant.config(config)
    if variant.name != NO_OPTIONS:
        changed = replace(changed, judge=NO_JUDGE)  # a judge is only for free-text answers
    session = open_session(run, changed, settings)
    there = {str(qid) for qid in session.dataset.qids}
    ids = [qid for qid in asked if qid in there]
    # Give the ids, because a limit could choose other questions.
    chosen = QuestionSelection(None if whole else ",".join(ids), None, run.selection.shuffle)
    return replace(session, run=replace(run, selection=chosen)), len(ids)


def _row(
    variant: Variant, summary: dict[str, Any], out: Path, dataset: Dataset, left_out: int
) -> PlayedVariant:
    if variant.name == FULL:
        return PlayedVariant(variant, summary)
    mine = read_run(out / variant.name)
    if variant.name == NO_OPTIONS:
        played = list(mine.episodes.values())
        return PlayedVariant(
            variant, summary, None, exact_match(played, dataset), left_out, _apart(played)
        )
    # The questions differ on purpose, so they are matched only by id.
    base, changed = (replace(run, questions={}) for run in (read_run(out / FULL), mine))
    try:
        against = count(match(base, changed))
    except SpecError:
        against = None  # everything failed, or the dataset has no answers
    return PlayedVariant(variant, summary, against, None, left_out)


def exact_match(
    episodes: Sequence[Trajectory], dataset: Dataset
) -> tuple[float, Sequence[float] | None, int] | None:
    """The share of free-text answers that equal the right one, with its interval.

    The interval is clustered by video. An episode without an answer is wrong. A failed one is left
    out.
    """
    played = [t for t in episodes if t.status != "failed"]
    scores = [answer_scores(t.said, dataset.task(t.qid).gold) for t in played]
    return _figure([one["exact_match"] for one in scores], played)


def _apart(episodes: Sequence[Trajectory]) -> dict[str, Any]:
    """The other measures of free-text answers: token F1, and a judge's verdicts."""
    scored = [t for t in episodes if t.status != "failed" and t.answer_scores]
    judged = [(t, t.judged.right) for t in scored if t.judged is not None]
    told = [(t, float(right)) for t, right in judged if right is not None]
    found = {"token F1": _figure([t.answer_scores["token_f1"] for t in scored], scored)}
    # An episode without an answer cannot be judged and is wrong.
    silent = [(t, 0.0) for t in scored if judged and t.said is None]
    both = [*told, *silent]
    found["judge"] = _figure([value for _, value in both], [t for t, _ in both])
    return {name: figure for name, figure in found.items() if figure is not None}


def _figure(
    values: Sequence[float], episodes: Sequence[Trajectory]
) -> tuple[float, Sequence[float] | None, int] | None:
    if not values:
        return None
    mean, interval = mean_with_interval(values, episodes)
    return mean, interval, len(values)


def make_tables(rows: Sequence[PlayedVariant], run: RunOptions, config: EnvConfig) -> list[Table]:
    """The table of variants."""
    columns = ("variant", "accuracy", "95% CI", "change", "95% CI of it", "p (Holm)", "paired",
               "failed", "left out")  # fmt: skip
    add_holm([row.against for row in rows if row.against is not None])
    body = []
    for row in rows:
        s, against = row.summary, row.against
        interval = against["difference_ci95"] if against else None
        body.append(
            [
                row.variant.name,
                format_number(s["accuracy"]),
                format_interval(accuracy_interval(s)),
                "-" if against is None else f"{against['difference']:+.3f}",
                format_signed_interval(interval),
                format_p(against["p_holm"] if against else None),
                "-" if against is None else str(against["n"]),
                str(s["n_failed"]),
                str(row.left_out),
            ]
        )
    (policy,) = run.policies
    caption = f"Robustness of {policy} on {config.dataset}, split {config.split}"
    note = (
        "change: accuracy minus that of full on the same questions, clustered by video. p is "
        "Holm's for all variants. Replies without a readable answer are wrong. left out: questions "
        "that the variant cannot ask."
    )
    return [Table("robustness", caption, columns, body, note)]


def notes(rows: Sequence[PlayedVariant], dataset: Dataset) -> list[str]:
    """The lines below the table."""
    known = [len(t.question.options) for t in dataset if t.gold.answer is not None]
    lines = []
    if known:
        lines.append(f"chance: {sum(1 / n for n in known) / len(known):.3f}")
    lines += power_notes({row.variant.name: row.against for row in rows})
    full = rows[0].summary
    if full["n_scored"] and (few := few_videos(full["n_videos"])):
        lines.append(few)
    for row in rows:
        if row.exact is not None:
            measures = {"exact match": row.exact, **row.apart}
            parts = [
                f"{name} {share:.3f} ({format_interval(interval)})"
                for name, (share, interval, _) in measures.items()
            ]
            lines.append(
                f"{row.variant.name}: {', '.join(parts)}, n = {row.exact[2]:,} free-text answers, "
                "not comparable with choosing an option"
            )
            lines += [f"{row.variant.name}: {line}" for line in judge_lines(row.summary)]
        left = row.summary["coverage"]["left_out"] if row.left_out else {}
        lines += [f"{row.variant.name}: {n:,} questions left out: {why}" for why, n in left.items()]
    return lines


def _write(
    rows: Sequence[PlayedVariant], tables: Sequence[Table], below: Sequence[str], run: RunOptions
) -> None:
    numbers = {
        row.variant.name: {
            "help": row.variant.help,
            "summary": row.summary,
            "against_full": row.against,
            "exact_match": None if row.exact is None else {
                "share": row.exact[0],
                "ci95": None if row.exact[1] is None else list(row.exact[1]),
                "n": row.exact[2],
            },
            "apart": {
                name: {"share": share, "ci95": None if ends is None else list(ends), "n": n}
                for name, (share, ends, n) in row.apart.items()
            },
            "left_out": row.left_out,
        }
        for row in rows
    }  # fmt: skip
    write_json(run.out / "robustness.json", {"policy": run.policies[0], "variants": numbers})
    lines = [*below, "", *(f"- `{row.variant.name}`: {row.variant.help}" for row in rows)]
    write_text(run.out / "robustness.md", to_markdown(tables) + "\n" + "\n".join(lines) + "\n")
    write_text(run.out / "robustness.tex", to_latex(tables))


async def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser(
        "longvideo-env robustness",
        __doc__,
        several=False,
        findings="some episodes failed, or a run was stopped",
    )
    add_variant_option(parser, VARIANTS, "Play only full and this variant")
    options = vars(parser.parse_args(argv))
    variants = choose_variants(VARIANTS, options["variant"], always=[FULL])
    run, config, settings = read_options(options)
    if run.shard is not None:
        raise SpecError(
            "--shard does not work here, because variants are paired. Fix: leave it out."
        )
    rows = await play_all(variants, run, config, settings, Console(stderr=True))
    tables = make_tables(rows, run, config)
    below = notes(rows, open_session(run, config, settings).dataset)
    _write(rows, tables, below, run)
    console = output_console()
    print_tables(tables, console)
    for line in (*below, f"Runs and table: {run.out}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    unfinished = any(row.summary["n_failed"] or row.summary.get("stopped") for row in rows)
    return EXIT_FINDINGS if unfinished else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("robustness", lambda: asyncio.run(_run(argv)), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
