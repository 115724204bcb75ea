"""The layers and shots that `ingest` makes of a film: speech, text, captions, shots."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from longvideo_env.commands.data.hearing import hear_film
from longvideo_env.commands.data.seeing import see_frames
from longvideo_env.datasets.layers import SPEECH
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.datasets.perceiving import SpeechReader, find_reader
from longvideo_env.errors import MissingExtraError, SpecError
from longvideo_env.records.files import write_text
from longvideo_env.specs import find_part

AUTO, NONE = "auto", "none"
SHOTS = "shots"
SHOTS_FILE = "shots.json"
_FINDER = "scenedetect"


@lru_cache(maxsize=1)  # one model for all films of a folder
def reader_of(spec: str) -> SpeechReader:
    """The speech model of a spec."""
    reader: SpeechReader = find_reader(SPEECH, spec)
    return reader


def find_ear(spec: str, *, has_subtitles: bool) -> tuple[SpeechReader | None, str]:
    """The speech model for a film, or None. Also a note if `auto` finds no model.

    Raises:
        SpecError: The spec is unknown.
        MissingExtraError: A library is not installed, and the spec is not `auto`.
    """
    if spec == NONE or (spec == AUTO and has_subtitles):
        return None, ""
    if Path(spec).is_dir():
        spec = f"whisper:{spec}"
    try:
        return reader_of(spec), ""
    except (MissingExtraError, SpecError) as error:
        if spec != AUTO:
            raise
        return None, f"speech: not heard, {error}"


def make_layers(
    folder: Path,
    film: Path,
    ear: SpeechReader | None,
    specs: Mapping[str, str],
    length_s: float,
    tick: Callable[[str, float, float], None],
) -> Iterator[str]:
    """Make the layers of a film's folder, and yield the outcome of each as text.

    Args:
        folder: The film's folder, with clips and frames.
        film: The film.
        ear: The speech model, or None.
        specs: Kind of layer -> spec of the model that reads the frames. Empty for none.
        length_s: Length of the film.
        tick: Called with the current step, the second of the film that it has reached, and the
            film's length.
    """
    videos = load_videos(folder)
    if ear is not None:
        (video,) = videos.values()
        yield str(hear_film(folder, film, video, ear, lambda what, t: tick(what, t, length_s)))
    for kind, spec in specs.items():
        if spec:
            shown = partial(_share, tick, kind, length_s)
            yield str(see_frames(folder, videos, kind, spec, tick=shown))


def _share(
    tick: Callable[[str, float, float], None], kind: str, length_s: float, n: int, of: int
) -> None:
    """Turn the share of finished frames into seconds of the film, for the progress bar."""
    tick(kind, length_s * n / max(of, 1), length_s)


def write_shots(folder: Path, film: Path) -> str:
    """Find the shots of a film, and write `shots.json`. Returns the outcome as text.

    Raises:
        MissingExtraError: The library is not installed.
    """
    found: Mapping[str, Any] = find_part(SHOTS, _FINDER)(film)
    write_text(folder / SHOTS_FILE, json.dumps(found, indent=0) + "\n")
    return f"shots: {len(found['shots']):,} ({found['version']})"
