"""A run's figures and a paper's tables, computed only from episodes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.metrics.answer_forms import answer_rows
from eval.metrics.judge_agreement import LABELS
from eval.metrics.pairs import Run, compare, match
from eval.metrics.summary import accuracy_interval, summarize
from eval.output.formatting import format_interval, format_number
from eval.runs.checkpoints import short_name
from longvideo_env.commands.typeset import Table, to_latex, to_markdown
from longvideo_env.errors import SpecError

UNCHECKED = ("wall_s",)
"""Figures of a summary that cannot be computed from episodes."""


def figures_of(run: Run, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a run from its episodes, as plain values like those in `summary.json`."""
    numbers = summarize(list(run.episodes.values()), int(summary["n_questions"]))
    plain: dict[str, Any] = json.loads(json.dumps(numbers))
    return plain


def different(was: Any, now: Any, name: str = "") -> list[str]:
    """The values that differ, with names such as `by_show.mini.accuracy`.

    Numbers are compared to nine digits, because another machine may round the last digits
    differently.
    """
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        keys = [*was, *(key for key in now if key not in was)]
        return [d for key in keys for d in _part(was, now, key, name)]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = enumerate(zip(was, now, strict=True))
        return [d for i, (a, b) in pairs for d in different(a, b, f"{name}[{i}]")]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (was, now))
    if numbers:
        same = math.isclose(was, now, rel_tol=1e-9, abs_tol=1e-9)
        same = same or (math.isnan(was) and math.isnan(now))
    else:
        same = was == now
    if same:
        return []
    return [f"{name} is {was!r:.60} in the summary and {now!r:.60} from the episodes"]


def _part(was: Mapping[str, Any], now: Mapping[str, Any], key: str, name: str) -> list[str]:
    place = f"{name}.{key}" if name else key
    if key not in was or key not in now:
        return [f"{place} is {'missing' if key not in was else 'in no episode'}"]
    return different(was[key], now[key], place)


RUN_COLUMNS = (
    *("run", "dataset", "accuracy", "95% CI", "grounding", "turns", "failed", "n", "videos"),
)
ANSWER_COLUMNS = ("run", "measure", "value", "95% CI", "n")
PAIR_COLUMNS = ("run", "against", "difference", "95% CI", "p", "n")


def paper_tables(
    runs: Mapping[str, Run], summaries: Mapping[str, Mapping[str, Any]]
) -> list[Table]:
    """The figures of runs, and each run compared with the first on their common questions."""
    figures = {name: figures_of(run, summaries[name]) for name, run in runs.items()}
    rows = [_row(name, summaries[name], now) for name, now in figures.items()]
    note = (
        "Intervals are at 95 % and clustered by video. Failed episodes are left out of the "
        "accuracy. Unreadable answers count as wrong."
    )
    tables = [Table("runs", "Accuracy", RUN_COLUMNS, rows, note)]
    answers = [row for name, now in figures.items() for row in _answers(name, now)]
    if answers:
        note = (
            "The accuracy of free-text answers is the judge's verdict, or exact match without a "
            "judge. The accuracy of answers to when is R@0.5. Agreement: the share of a judge's "
            "verdicts that match what is known without it."
        )
        tables.append(
            Table("answers", "Answers in words and in time", ANSWER_COLUMNS, answers, note)
        )
    paired = _paired_rows(runs)
    if paired:
        note = "Paired on the same questions. Intervals are clustered by video."
        tables.append(Table("pairs", "Differences of accuracy", PAIR_COLUMNS, paired, note))
    return tables


def table_files(tables: Sequence[Table]) -> dict[str, bytes]:
    """The tables as the files of a bundle."""
    return {"table.md": to_markdown(tables).encode(), "table.tex": to_latex(tables).encode()}


def _row(name: str, summary: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        name,
        f"{summary.get('dataset')} {summary.get('split')}",
        format_number(now["accuracy"]),
        format_interval(accuracy_interval(now)),
        format_number(now["grounding_accuracy"]),
        format_number(now["mean_turns"], 2),
        str(now["n_failed"]),
        str(now["n_scored"]),
        str(now["n_videos"]),
    ]


def _answers(name: str, now: Mapping[str, Any]) -> list[list[str]]:
    found = answer_rows(now)
    for known, row in (now.get("judge") or {}).get("agreement", {}).items():
        label = f"judge's agreement with {LABELS[known]}"
        found.append((label, row["agree"], row["agree_ci95"], row["n"]))
    return [
        [name, label, format_number(value), format_interval(interval), str(n)]
        for label, value, interval, n in found
    ]


def _paired_rows(runs: Mapping[str, Run]) -> list[list[str]]:
    if len(runs) < 2:
        return []
    first, *others = runs
    rows = []
    for name in others:
        try:
            numbers = compare(match(runs[first], runs[name]))
        except SpecError:
            continue  # no common questions
        interval = numbers["difference_ci95"]
        rows.append(
            [
                name,
                first,
                f"{numbers['difference']:+.3f}",
                "-" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}",
                _p_value(numbers["p"]),
                str(numbers["n"]),
            ]
        )
    return rows


def _p_value(p: float | None) -> str:
    if p is None or math.isnan(p):
        return "-"
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.1e}"


def unique_names(policies: Sequence[str], folders: Sequence[str]) -> list[str]:
    """The names of runs in tables: their policies, with the folder if several have the same."""
    short = [short_name(policy) for policy in policies]
    return [
        name if short.count(name) == 1 else f"{name} ({folder})"
        for name, folder in zip(short, folders, strict=True)
    ]
