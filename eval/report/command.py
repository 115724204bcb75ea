"""Make one HTML page of runs, with figures side by side and every episode turn by turn.

    longvideo-env report runs/dev/random runs/dev/scripted-ground-look-answer --out report.html
    longvideo-env report runs/dev --out report.html --frames-root DIR
    longvideo-env report runs/grpo --out training.html
    longvideo-env report data/film --out film.html

RUN is a folder that `longvideo-env evaluate` wrote, a folder of several runs, or the --output-dir
or --save-rollouts of a training. The page is one file that needs no network. It holds every prompt,
reply and observation of the runs, and the right answers.

For a folder that `ingest` wrote, it makes a searchable page about the film: pictures, dialogue,
text on screen and captions along one time axis.

Questions and gold answers come from the dataset that a run names, or from --dataset and --split. If
the dataset cannot be read, questions are shown as in the prompts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from eval.report.asked import Questions
from eval.report.film_page import FilmPage, build_film_page, is_film
from eval.report.folders import Source, read_sources
from eval.report.page import Page, build_page
from eval.report.thumbs import Thumbs
from longvideo_env.commands.exit_codes import EXIT_DONE
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.errors import SpecError
from longvideo_env.records.files import storage_error, write_text

MAX_FRAMES = 400
MAX_ROLLOUTS = 6400


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        prog="longvideo-env report",
        description=__doc__,
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="A run, or a folder of runs.")
    add("--out", type=Path, required=True, metavar="FILE", help="The page, such as report.html.")
    add("--title", default="", help="Title of the page. Default: the runs' names.")
    add(
        "--name",
        action="append",
        metavar="NAME",
        help="A run's name on the page. Give one per run, in order. Default: its policy.",
    )
    add("--dataset", metavar="DIR", help="Dataset of the questions. Default: the runs' own.")
    add("--split", help="Split of --dataset. Default: each run's own.")
    add(
        "--frames-root",
        metavar="DIR",
        help="Folder of the clips' frames. Default: the dataset's.",
    )
    add(
        "--max-frames",
        type=int,
        default=MAX_FRAMES,
        metavar="N",
        help=f"The most thumbnails in the page. 0 for none. Default: {MAX_FRAMES}.",
    )
    add(
        "--max-rollouts",
        type=int,
        default=MAX_ROLLOUTS,
        metavar="N",
        help="The most episodes of a training run. If it has more, steps are left out evenly. "
        f"Default: {MAX_ROLLOUTS}.",
    )
    return parser


def make_report(options: argparse.Namespace, sources: Sequence[Source], stderr: Console) -> Page:
    """Build the page with a progress bar."""
    roots = [Path(options.frames_root)] if options.frames_root else []
    questions = Questions(options.dataset, options.split, options.frames_root)
    title = options.title or " · ".join(dict.fromkeys(source.name for source in sources))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=stderr, disable=not stderr.is_terminal
    ) as progress:
        bar = progress.add_task("episodes", total=sum(len(s.episodes) for s in sources))
        return build_page(
            sources,
            questions,
            Thumbs(options.max_frames, roots),
            title,
            lambda n: progress.update(bar, advance=n),
        )


def write_report(runs: Sequence[Path], out: Path, *more: str) -> None:
    """Write a page of runs with the command's defaults, and print nothing.

    Raises:
        SpecError: A run cannot be read.
        StorageError: The file cannot be written.
    """
    options = build_parser().parse_args([*map(str, runs), "--out", str(out), *more])
    sources = read_sources(options.runs, options.name, options.max_rollouts)
    _save(make_report(options, sources, Console(stderr=True, quiet=True)), out)


def _film(options: argparse.Namespace, stderr: Console) -> int:
    if len(options.runs) != 1:
        raise SpecError("a page has one film, or runs. Fix: give a single folder of a film.")
    page = build_film_page(options.runs[0], options.title, options.max_frames)
    for note in page.notes:
        stderr.print(f"note: {note}", style="yellow", markup=False, highlight=False)
    _save(page, options.out)
    text = f"{options.out}: {page.n_rows:,} rows, {page.n_pictures:,} pictures"
    Console(soft_wrap=True).print(text, highlight=False, markup=False)
    return EXIT_DONE


def _save(page: Page | FilmPage, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(out, error) from error
    write_text(out, page.html)


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    if options.max_frames < 0 or options.max_rollouts < 1:
        raise SpecError("--max-frames must be at least 0 and --max-rollouts at least 1.")
    start = time.perf_counter()
    stderr = Console(stderr=True, soft_wrap=True)
    if any(map(is_film, options.runs)):
        return _film(options, stderr)
    sources = read_sources(options.runs, options.name, options.max_rollouts)
    page = make_report(options, sources, stderr)
    for note in page.notes:
        stderr.print(f"note: {note}", style="yellow", markup=False, highlight=False)
    _save(page, options.out)
    size = options.out.stat().st_size
    Console(soft_wrap=True).print(
        f"{options.out}: {len(sources)} runs, {page.n_episodes} episodes, {page.n_frames} frames, "
        f"{size / 1e6:.2f} MB, {time.perf_counter() - start:.1f} s",
        highlight=False,
        markup=False,
    )
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("report", lambda: _run(argv))
