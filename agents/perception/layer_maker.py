"""Makes a layer for several films, one after another, with a model that is loaded once.

    maker = LayerMaker("rapidocr", "text")
    outcome = maker.attempt(Path("data/talk"))
    outcome.said, outcome.failures     # "talk: text: 6 lines from 14 frames (rapidocr)", ()

An existing layer is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from agents.evidence import film_lines
from agents.grounding.meaning import embed_passages
from agents.perception.embeddings import open_embedder
from longvideo_env.commands.data.hearing import hear_film
from longvideo_env.commands.data.seeing import Made, made_already, see_frames
from longvideo_env.datasets.layers import SPEECH
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.datasets.perceiving import find_reader
from longvideo_env.errors import (
    DatasetNotFoundError,
    FolderInUseError,
    LongVideoEnvError,
    MissingExtraError,
    SpecError,
)
from longvideo_env.schema import Video

EMBED = "embed"

Tell: TypeAlias = Callable[..., object]
"""Takes the progress of a film: `completed` and `total`, or a `description`."""


def _silent(**_: object) -> None:
    pass


class FilmOutcome(NamedTuple):
    """The outcome for a film.

    Attributes:
        said: A line for the user; empty if the film failed.
        failures: Failures, one line each.
    """

    said: str
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerMaker:
    """Makes layers of films.

    Attributes:
        spec: Spec of the model.
        kind: `speech`, `text`, `captions` or `embed`.
        films: Folder of the films, for speech.
        workers: Number of processes that read frames.
    """

    spec: str
    kind: str
    films: Path | None = None
    workers: int = 1

    @cached_property
    def model(self) -> Any:
        """The reader or embedding model, loaded once.

        Raises:
            SpecError: The spec is invalid.
            MissingExtraError: The model needs a package that is not installed.
        """
        if self.kind == EMBED:
            return open_embedder(self.spec.partition(":")[2])
        return find_reader(self.kind, self.spec)

    def attempt(self, folder: Path, tell: Tell = _silent) -> FilmOutcome:
        """Make the layer of one folder. Failures are returned, not raised.

        Raises:
            SpecError: The spec is invalid.
            MissingExtraError: The model needs a package that is not installed.
            FolderInUseError: Another process is making layers in the folder.
        """
        _ = self.model
        try:
            made = self.make(folder, tell)
        except (MissingExtraError, FolderInUseError):
            raise
        except (LongVideoEnvError, OSError, ValueError, RuntimeError) as error:
            ours = isinstance(error, LongVideoEnvError)
            why = str(error) if ours else f"{type(error).__name__}: {error!s:.300}"
            return FilmOutcome("", (f"{folder.name}: {why}",))
        failed = made.failed if isinstance(made, Made) else {}
        named = (f"{folder.name}, {clip_id}: {why}" for clip_id, why in failed.items())
        return FilmOutcome(f"{folder.name}: {made}", tuple(named))

    def make(self, folder: Path, tell: Tell = _silent) -> Made | str:
        """Make the layer of one folder. Existing parts are kept.

        Raises:
            DataError: The folder or the film is invalid.
            SpecError: The folder has several videos, but speech needs one film per folder.
        """
        videos = load_videos(folder)
        if self.kind == EMBED:
            return self._embed(videos, tell)
        if self.kind == SPEECH:
            if made := made_already(folder, self.model.maker):
                return made
            video, film = _only(videos, folder), _film_of(folder, self.films)

            def at(what: str, second: float) -> None:
                tell(description=f"{folder.name}: {what} {second:.0f} s")

            return hear_film(folder, film, video, self.model, at)

        def seen(n: int, of: int) -> None:
            tell(completed=n, total=of)

        return see_frames(
            folder,
            videos,
            self.kind,
            self.spec,
            reader=self.model,
            workers=self.workers,
            tick=seen,
        )

    def _embed(self, videos: Mapping[str, Video], tell: Tell) -> str:
        n = 0
        for i, video in enumerate(videos.values(), start=1):
            n += len(film_lines(video, self.model).placed) + embed_passages(video, self.model)
            tell(completed=i)
        return f"embed: {n:,} texts of {len(videos):,} videos are in the cache"


def _only(videos: Mapping[str, Video], folder: Path) -> Video:
    if len(videos) != 1:
        raise SpecError(
            f"{folder} has {len(videos):,} videos, but speech needs one film per folder. Fix: "
            "ingest each film into its own folder."
        )
    return next(iter(videos.values()))


def _film_of(folder: Path, films: Path | None) -> Path:
    """The film that a folder was made from.

    Raises:
        DatasetNotFoundError: The film is missing, or another film has its name.
    """
    try:
        record = json.loads((folder / "film.json").read_text(encoding="utf-8"))
        name, n_bytes = str(record["film"]), int(record["n_bytes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetNotFoundError(
            "there is no film.json, so the film is unknown.", folder, None, "ingest the film."
        ) from error
    path = films / name if films is not None and films.is_dir() else films
    if path is None or not path.is_file() or path.stat().st_size != n_bytes:
        raise DatasetNotFoundError(
            f"expected the film {name!r} with {n_bytes:,} bytes.",
            path or folder,
            None,
            "pass the folder of the films: --films FOLDER.",
        )
    return path
