"""Caption, transcribe, read or embed all films of a dataset, as layers that the agents search.

    longvideo-env describe data/films --with vlm:FOLDER,every_s=5 --workers 2
    longvideo-env describe data/films --with rapidocr
    longvideo-env describe data/films --with whisper:small --films films/
    longvideo-env describe data/films --with embed:models/minilm

DATASET is a folder with clips and frames (of `ingest`, `prepare`, or in a layout of docs/data.md),
or a folder of such folders. What is done is kept batch by batch: the same command goes on where it
was stopped, and ends with the same bytes. What failed is listed at the end and named in the layer;
the same command tries it again. Speech needs the films themselves, found by name below --films.

Exit codes: 0 done; 2 bad arguments or data; 3 done, but something failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.evidence import film_lines
from agents.grounding.meaning import embed_passages
from agents.perception.embeddings import open_embedder
from longvideo_env.commands.data.hearing import hear_film
from longvideo_env.commands.data.seeing import Made, made_already, see_frames
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import EXIT_DONE, EXIT_FAILURES, progress_bar, run_command
from longvideo_env.datasets.layers import SPEECH
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.datasets.perceiving import GROUPS, SpeechReader, find_reader
from longvideo_env.errors import DataError, DatasetNotFoundError, SpecError
from longvideo_env.schema import Video
from longvideo_env.specs import entry_point_names, is_attribute, unknown

EMBED = "embed"
KINDS = (*GROUPS, EMBED)


def kind_of(spec: str, given: str | None = None) -> str:
    """Which kind of layer a spec makes: by its name, or as it was given for `module:attribute`.

    Raises:
        SpecError: Its name is not known.
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
        raise SpecError(f"{spec!r} makes which kind of layer? Fix: give --kind {'|'.join(GROUPS)}.")
    known = {EMBED, *(n for group in GROUPS.values() for n in entry_point_names(group))}
    raise SpecError(unknown("maker of layers", name, known))


def folders_of(dataset: Path) -> list[Path]:
    """The folders with clips: the dataset itself, or those in it.

    Raises:
        DatasetNotFoundError: There is none.
    """
    if (dataset / "film.json").is_file():
        return [dataset]
    inside = sorted(path.parent for path in dataset.glob("*/film.json"))
    if inside:
        return inside
    load_videos(dataset)  # says what is missing
    return [dataset]


def describe(
    folder: Path, spec: str, kind: str, *, films: Path | None, workers: int, bar: Any
) -> Made | str:
    """Make one layer of one folder; what is made already stays.

    Raises:
        DataError: The folder, or the film, is wrong.
        SpecError: The spec has no meaning.
    """
    videos = load_videos(folder)
    shown = bar.add_task(folder.name, total=None)
    if kind == EMBED:
        return _embed(videos, spec.partition(":")[2], lambda n: bar.update(shown, completed=n))
    if kind == SPEECH:
        reader: SpeechReader = find_reader(SPEECH, spec)
        if made := made_already(folder, reader.maker):
            return made
        video = _only(videos, folder)
        tick = lambda what, t: bar.update(shown, description=f"{folder.name}: {what} {t:.0f} s")  # noqa: E731
        return hear_film(folder, _film_of(folder, films), video, reader, tick)
    return see_frames(
        folder,
        videos,
        kind,
        spec,
        workers=workers,
        tick=lambda n, of: bar.update(shown, completed=n, total=of),
    )


def _embed(videos: Mapping[str, Video], model: str, tick: Any) -> str:
    embedder = open_embedder(model)
    n = 0
    for i, video in enumerate(videos.values(), start=1):
        n += len(film_lines(video, embedder).placed) + embed_passages(video, embedder)
        tick(i)
    return f"embed: {n:,} texts of {len(videos):,} videos are in the cache"


def _only(videos: Mapping[str, Video], folder: Path) -> Video:
    if len(videos) != 1:
        raise SpecError(
            f"{folder} holds {len(videos):,} videos, and speech is heard film by film. Fix: ingest "
            "each film into a folder of its own."
        )
    return next(iter(videos.values()))


def _film_of(folder: Path, films: Path | None) -> Path:
    """The film that a folder was made of.

    Raises:
        DatasetNotFoundError: It is not there, or another film has its name.
    """
    try:
        record = json.loads((folder / "film.json").read_text(encoding="utf-8"))
        name, n_bytes = str(record["film"]), int(record["n_bytes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetNotFoundError(
            "there is no film.json, so the film is not known.", folder, None, "ingest the film."
        ) from error
    path = films / name if films is not None and films.is_dir() else films
    if path is None or not path.is_file() or path.stat().st_size != n_bytes:
        raise DatasetNotFoundError(
            f"expected the film {name!r} with {n_bytes:,} bytes.",
            path or folder,
            None,
            "give the folder of the films: --films FOLDER.",
        )
    return path


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(prog="longvideo-env describe", description=__doc__)
    add = parser.add_argument
    add("dataset", type=Path, help="a folder with clips, or a folder of such folders")
    add("--with", dest="spec", required=True, metavar="SPEC", help="what makes the layer: "
        "vlm:FOLDER, rapidocr, whisper:SIZE, embed:MODEL, or module:attribute")  # fmt: skip
    add("--kind", choices=tuple(GROUPS), help="of the layer, for module:attribute")
    add("--films", type=Path, metavar="FOLDER", help="where the films lie, for speech")
    add("--workers", type=int, default=1, help="processes that read frames; each loads the model "
        "(%(default)s)")  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("describe", lambda: _run(args), resumes=True)


def _run(args: argparse.Namespace) -> int:
    if args.workers < 1:
        raise SpecError(f"--workers must be at least 1, got {args.workers}.")
    kind = kind_of(args.spec, args.kind)
    failures: list[str] = []
    with progress_bar() as bar:
        for folder in folders_of(args.dataset):
            try:
                made = describe(
                    folder, args.spec, kind, films=args.films, workers=args.workers, bar=bar
                )
            except DataError as error:
                failures.append(f"{folder.name}: {error}")
                continue
            sys.stdout.write(f"{folder.name}: {made}\n")
            failures += _failures(folder.name, made)
    for failure in failures:
        sys.stderr.write(f"describe: {failure}\n")
    return EXIT_FAILURES if failures else EXIT_DONE


def _failures(name: str, made: Made | str) -> Iterator[str]:
    if isinstance(made, Made):
        for clip_id, reason in made.failed.items():
            yield f"{name}, {clip_id}: {reason}"
