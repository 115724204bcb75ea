"""Caption, transcribe, read or embed all films of a dataset, as layers that the agents search.

    longvideo-env describe data/films --with vlm:FOLDER,every_s=5 --workers 2
    longvideo-env describe data/films --with rapidocr
    longvideo-env describe data/films --with whisper:small --films films/
    longvideo-env describe data/films --with embed:models/minilm
    longvideo-env describe data/films --with rapidocr --ray auto

DATASET is a folder with clips and frames (of `ingest`, `prepare`, or in a layout of docs/data.md),
or a folder of such folders. What is done is kept batch by batch: the same command goes on where it
was stopped, and ends with the same bytes. What failed is listed at the end and named in the layer;
the same command tries it again. Speech needs the films themselves, found by name below --films.
With --ray the films are spread over a cluster (docs/scale.md); the layers are the same.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.progress import Progress

from agents.cluster.joining import RayOptions, add_ray_options, joined_cluster, read_ray
from agents.perception.layer_maker import EMBED, FilmOutcome, LayerMaker
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import message_prefix, progress_bar, run_command
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.datasets.perceiving import GROUPS
from longvideo_env.errors import SpecError
from longvideo_env.redaction import cleanse
from longvideo_env.specs import entry_point_names, is_attribute, unknown

KINDS = (*GROUPS, EMBED)


def kind_of(spec: str, given: str | None = None) -> str:
    """The kind of layer that a spec makes: by its name, or `given` for `module:attribute`.

    Raises:
        SpecError: The name is unknown.
    """
    if given is not None:
        return given
    name = spec.partition(":")[0]
    if name == EMBED:
        return EMBED
    for kind, group in GROUPS.items():
        if name in entry_point_names(group):
            return kind
    if is_attribute(spec):
        raise SpecError(f"{spec!r}: unknown kind of layer. Fix: give --kind {'|'.join(GROUPS)}.")
    known = {EMBED, *(n for group in GROUPS.values() for n in entry_point_names(group))}
    raise SpecError(unknown("maker of layers", name, known))


def folders_of(dataset: Path) -> list[Path]:
    """The folders with clips: the dataset itself, or its subfolders.

    Raises:
        DatasetNotFoundError: There is no such folder.
    """
    if (dataset / "film.json").is_file():
        return [dataset]
    inside = sorted(path.parent for path in dataset.glob("*/film.json"))
    if inside:
        return inside
    load_videos(dataset)  # says what is missing
    return [dataset]


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser("longvideo-env describe", __doc__, findings="some films failed")
    add = parser.add_argument
    add("dataset", type=Path, help="a folder with clips, or a folder of such folders")
    add("--with", dest="spec", required=True, metavar="SPEC", help="what makes the layer: "
        "vlm:FOLDER, rapidocr, whisper:SIZE, embed:MODEL, or module:attribute")  # fmt: skip
    add("--kind", choices=tuple(GROUPS), help="of the layer, for module:attribute")
    add("--films", type=Path, metavar="FOLDER", help="where the films lie, for speech")
    add("--workers", type=int, default=1, help="processes that read frames; each loads the model "
        "")  # fmt: skip
    add_ray_options(
        parser,
        "Spread the films over a cluster of Ray: auto joins that of this machine, or starts one on "
        "it; local always starts one. All nodes must see the folders.",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("describe", lambda: _run(args), resumes=True)


def _run(args: argparse.Namespace) -> int:
    if args.workers < 1:
        raise SpecError(f"--workers must be at least 1, got {args.workers}.")
    cluster = read_ray(vars(args))
    if cluster is not None and args.workers > 1:
        raise SpecError("--workers and --ray cannot be combined. Fix: use --ray-workers.")
    maker = LayerMaker(args.spec, kind_of(args.spec, args.kind), args.films, args.workers)
    folders = folders_of(args.dataset)
    failures: list[str] = []
    with progress_bar() as bar:
        for outcome in (
            _here(folders, maker, bar) if cluster is None else _spread(folders, maker, cluster, bar)
        ):
            if outcome.said:
                sys.stdout.write(f"{outcome.said}\n")
                sys.stdout.flush()
            failures += outcome.failures
    for failure in failures:
        sys.stderr.write(cleanse(f"{message_prefix('describe')}{failure}\n"))
    return EXIT_FINDINGS if failures else EXIT_DONE


def _here(folders: Sequence[Path], maker: LayerMaker, bar: Progress) -> Iterator[FilmOutcome]:
    for folder in folders:
        shown = bar.add_task(folder.name, total=None)
        yield maker.attempt(folder, partial(bar.update, shown))


def _spread(
    folders: Sequence[Path], maker: LayerMaker, cluster: RayOptions, bar: Progress
) -> Iterator[FilmOutcome]:
    from agents.cluster.film_pipeline import describe_films  # Ray is an extra

    shown = bar.add_task("starting workers", total=len(folders))
    by_node: Counter[str] = Counter()
    with joined_cluster(cluster) as n_workers:
        for node, outcome in describe_films(folders, maker, cluster, n_workers):
            by_node[node] += 1
            said = ", ".join(f"{node} {n:,}" for node, n in by_node.most_common(4))
            bar.update(shown, advance=1, description=said)
            yield outcome
