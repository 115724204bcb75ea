"""Make a paper's table of runs: accuracy with intervals, and each run compared with the first.

    longvideo-env table runs/eval/random runs/eval/hf-mine
    longvideo-env table runs/eval --format tex > table.tex
    longvideo-env table runs/eval --names baseline ours --json

Every figure is computed from the episodes. Each run is compared with the first on their common
questions. Failed episodes are left out of the accuracy and counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from eval.bundle.figures import paper_tables, unique_names
from eval.bundle.packing import run_folders
from eval.metrics.pairs import read_run
from eval.runs.store import SUMMARY
from longvideo_env.commands.exit_codes import EXIT_DONE
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console, print_tables
from longvideo_env.errors import SpecError


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser("longvideo-env table", __doc__, tables=True)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="A run, or a folder of runs.")
    add("--names", nargs="+", metavar="NAME", help="Names of the runs, in their order.")
    return parser


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    folders = run_folders(options.runs)
    runs = [read_run(folder) for folder in folders]
    policies = [str(run.config.get("policy")) for run in runs]
    names = options.names or unique_names(policies, [folder.name for folder in folders])
    if len(set(names)) != len(runs):
        found = ", ".join(folder.name for folder in folders)
        raise SpecError(
            f"expected {len(runs)} different --names, got {' '.join(names)}. "
            f"Fix: give one for each run: {found}."
        )
    summaries = [
        json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if (folder / SUMMARY).is_file()
        else {**run.config, "n_questions": len({qid for qid, _ in run.episodes})}
        for folder, run in zip(folders, runs, strict=True)
    ]
    tables = paper_tables(
        dict(zip(names, runs, strict=True)), dict(zip(names, summaries, strict=True))
    )
    print_tables(tables, output_console())
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("table", lambda: _run(argv))
