"""Describe a run on one page: data, failures, leaks, settings, price, and a sentence to cite.

    longvideo-env card runs/demo/hf-mini-starter
    longvideo-env card runs/api/openai-gpt-4o --out card --dataset DIR

Writes STEM.html and STEM.md, and STEM.json in the schema of EvalEval's "Every Eval Ever" 0.3.0. The
figures are computed from the run's episodes. The page runs no script and loads nothing. The leak
meter reads the run's dataset. If the dataset is missing, the card says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from eval.bundle.card_facts import make_card
from eval.bundle.card_page import to_html, to_markdown
from eval.bundle.eval_record import eval_record
from eval.bundle.figures import figures_of
from eval.leaks import Leak, measure_leaks
from eval.metrics.pairs import read_run
from eval.rescore import read_summary
from eval.runs.store import SUMMARY
from longvideo_env import load_dataset
from longvideo_env.commands.exit_codes import EXIT_DONE
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.errors import InputError, LongVideoEnvError
from longvideo_env.records.files import storage_error, write_json, write_text


def measure(dataset: str, split: str) -> tuple[list[Leak] | None, str]:
    """Measure the leaks of a split. If that fails: None, and the reason."""
    try:
        return measure_leaks(load_dataset(dataset, split, skip_invalid=True)), ""
    except LongVideoEnvError as error:
        return None, str(error)


def write_card(folder: Path, stem: Path, dataset: str | None = None) -> str:
    """Write the card of a run.

    Args:
        folder: The run's folder.
        stem: Path without ending. STEM.html, STEM.md and STEM.json are written.
        dataset: Path of its dataset, if it is not at the path that the run names.

    Returns:
        The sentence to cite.

    Raises:
        InputError: The run is not finished.
        StorageError: A file cannot be written.
    """
    run = read_run(folder)
    summary = read_summary(run)
    if not summary:
        raise InputError(f"{run.folder} has no {SUMMARY}. Fix: resume and finish the run.")
    summary = {**summary, **figures_of(run, summary)}
    leaks, why = measure(
        dataset or str(run.config.get("dataset")), str(run.config.get("split") or "val")
    )
    card = make_card(run, summary, leaks, why)
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(stem, error) from error
    write_text(stem.with_name(f"{stem.name}.html"), to_html(card))
    write_text(stem.with_name(f"{stem.name}.md"), to_markdown(card))
    record = eval_record(run, summary, int(time.time()))
    write_json(stem.with_name(f"{stem.name}.json"), record)
    return card.sentence


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(prog="longvideo-env card", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="A run's folder.")
    add("--out", type=Path, metavar="STEM", help="Path without ending. Default: RUN/card.")
    add("--dataset", metavar="DIR", help="Path of the run's dataset on this machine.")
    return parser


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    stem = options.out or options.run / "card"
    if stem.suffix in (".html", ".md", ".json"):
        stem = stem.with_suffix("")
    sentence = write_card(options.run, stem, options.dataset)
    console = output_console()
    for line in (sentence, f"{stem}.html, {stem}.md, {stem}.json"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("card", lambda: _run(argv))
