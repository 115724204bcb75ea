"""Merge the shards of a run into one run.

    longvideo-env merge runs/api/openai-gpt-4o.shard-*-of-4 --out runs/api/openai-gpt-4o

Shards are folders that `longvideo-env evaluate --shard I/N` wrote, with one configuration. The
result is a normal run's folder. It can be compared and scored again. Resuming it without --shard
plays missing and failed episodes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from eval.metrics.benchmark_groups import group_shares
from eval.metrics.named_options import merge_named
from eval.metrics.pairs import Run, read_run
from eval.metrics.summary import summarize
from eval.runs.run_options import Shard, parse_shard
from eval.runs.store import SUMMARY, RunStore, read_facts, read_questions, refuse_to_overwrite
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.errors import InputError, SpecError
from longvideo_env.records.trajectory import Trajectory

SUMS = ("wall_s",)
"""Figures of the shards' summaries that are added. All others are computed again."""


def merge(
    folders: Sequence[Path], out: Path, *, overwrite: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Write one run from its shards. All figures are computed again from the episodes.

    Args:
        folders: The shards' folders.
        out: The folder of the whole run.
        overwrite: Whether to delete a run in this folder.

    Returns:
        The summary, and warnings about missing parts.

    Raises:
        SpecError: The shards do not belong together, or `out` holds a run.
    """
    if not overwrite:
        refuse_to_overwrite(out)
    runs = [read_run(folder) for folder in folders]
    summaries = [_summary_of(run) for run in runs]
    shards = [_shard_of(run, summary) for run, summary in zip(runs, summaries, strict=True)]
    _check_alike(runs, shards)
    episodes = _interleave(runs, shards)
    missing = _missing(shards, summaries)
    facts = {qid: found for run in runs for qid, found in read_facts(run.folder).items()}
    if not facts and any(summary.get("groups") for summary in summaries):
        missing.append(
            "the groups of the questions are missing, because an earlier release wrote the shards. "
            f"Fix: read them from the dataset with longvideo-env rescore {out}"
        )
    whole = {key: v for key, v in summaries[0].items() if key not in ("shard", "recording")}
    n_questions = sum(int(summary["n_questions"]) for summary in summaries)
    whole |= {
        **summarize(episodes, n_questions),
        **{name: sum(float(summary[name]) for summary in summaries) for name in SUMS},
        **_added(summaries),
        "named_options": merge_named(summaries),
        "groups": group_shares(facts, episodes),
        "shard": None,
        "merged_from": [folder.name for folder in folders],
    }
    with RunStore(
        out, runs[0].config, questions=read_questions(runs[0].folder), overwrite=overwrite
    ) as store:
        for trajectory in episodes:
            store.add(trajectory)
        store.finish(whole, [(str(t.qid), t.sample) for t in episodes], facts)
    return whole, missing


def _added(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The number of requested episodes, the costs and the stops. Empty for older summaries."""
    added: dict[str, Any] = {}
    if all("n_asked" in summary for summary in summaries):
        added["n_asked"] = sum(int(summary["n_asked"]) for summary in summaries)
        names = ("tokens", "usd", "unpriced")
        added["spent"] = {n: sum(summary["spent"][n] for summary in summaries) for n in names}
    stopped = [str(summary["stopped"]) for summary in summaries if summary.get("stopped")]
    return {**added, **({"stopped": "; ".join(stopped)} if stopped else {})}


def _summary_of(run: Run) -> dict[str, Any]:
    path = run.folder / SUMMARY
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). Fix: finish the shard. The same command resumes it."
        ) from error


def _shard_of(run: Run, summary: dict[str, Any]) -> Shard:
    if not summary.get("shard"):
        raise InputError(
            f"expected a shard's folder, but {run.folder} was not played with --shard."
        )
    return parse_shard(str(summary["shard"]))


def _check_alike(runs: Sequence[Run], shards: Sequence[Shard]) -> None:
    for run, shard in zip(runs, shards, strict=True):
        if run.config != runs[0].config:
            keys = sorted(
                key
                for key in {*run.config, *runs[0].config}
                if run.config.get(key) != runs[0].config.get(key)
            )
            raise InputError(
                f"expected shards of one run, but {run.folder} and {runs[0].folder} differ in "
                f"{', '.join(keys)}."
            )
        if shard.count != shards[0].count:
            raise InputError(
                f"expected shards of one run, but {run.folder} is {shard} and {runs[0].folder} is "
                f"{shards[0]}."
            )
    if len(set(shards)) < len(shards):
        raise SpecError(f"a shard is given twice: {', '.join(map(str, shards))}.")


def _interleave(runs: Sequence[Run], shards: Sequence[Shard]) -> list[Trajectory]:
    """All episodes, in the order of the dataset. A shard has every Nth question."""
    placed: list[tuple[tuple[int, int, int], Trajectory]] = []
    seen: dict[tuple[str, int], Path] = {}
    for run, shard in zip(runs, shards, strict=True):
        ranks: dict[str, int] = {}
        for key, trajectory in run.episodes.items():
            if key in seen:
                raise SpecError(f"question {key[0]} is both in {seen[key]} and in {run.folder}.")
            seen[key] = run.folder
            rank = ranks.setdefault(key[0], len(ranks))
            placed.append(((rank, shard.index, trajectory.sample), trajectory))
    return [trajectory for _, trajectory in sorted(placed, key=lambda item: item[0])]


def _missing(shards: Sequence[Shard], summaries: Sequence[dict[str, Any]]) -> list[str]:
    there = {shard.index for shard in shards}
    count = shards[0].count
    missing = [f"shard {i}/{count} is missing" for i in range(1, count + 1) if i not in there]
    for shard, summary in zip(shards, summaries, strict=True):
        wanted = int(summary["n_questions"]) * int(summary.get("n_samples", 1))
        left = wanted - int(summary["n_finished"]) + int(summary["n_failed"])
        if left:
            missing.append(f"shard {shard}: {left} of {wanted} episodes are missing or failed")
    return missing


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        "longvideo-env merge",
        __doc__,
        tables=True,
        findings="a shard is missing or not finished",
    )
    parser.add_argument("shards", nargs="+", type=Path, metavar="SHARD", help="A shard's folder.")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="The folder of the whole run."
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Delete a run that --out already holds."
    )
    return parser


def _run(argv: Sequence[str] | None) -> int:
    from eval.run_policy import print_samples, print_table, say

    options = build_parser().parse_args(argv)
    if options.out.resolve() in [folder.resolve() for folder in options.shards]:
        raise SpecError("--out must not be one of the shards.")
    summary, missing = merge(options.shards, options.out, overwrite=options.overwrite)
    console = output_console()
    print_table([summary], console)
    print_samples([summary], console)
    say(console, f"Episodes and summary: {options.out}")
    stderr = Console(stderr=True, soft_wrap=True)
    for line in missing:
        stderr.print(f"warning: {line}.", style="yellow", markup=False, highlight=False)
    return EXIT_FINDINGS if missing else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("merge", lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
