"""A page about a film: pictures, dialogue, text on screen and captions along one time axis.

`longvideo-env report FILM_FOLDER` makes it from a folder that `ingest` wrote. A row is a shot if
shots are known (`ingest --shots`), or ten seconds.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from agents.vision.captions import described
from eval.report.thumbs import thumbnail
from longvideo_env.commands.data.ingest_layers import SHOTS_FILE
from longvideo_env.datasets.jsonfile import read_object
from longvideo_env.datasets.layers import CAPTIONS, SPEECH, TEXT
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.errors import InputError, MalformedFileError
from longvideo_env.media.frames import Frame, list_frames, spread
from longvideo_env.schema import Clip, TimedText, Video, clock

ROW_S = 10.0
LANES = ("dialogue", "heard", TEXT, CAPTIONS)
_LABELS = {TEXT: "text on screen"}


@dataclass
class FilmRow:
    """A stretch of the film.

    Attributes:
        start_s: Its start in the film, in seconds.
        end_s: Its end in the film, in seconds.
        picture: A frame from its middle as a data URI, or None.
        lanes: `(time, text)` of each line that starts in it, by the names of `LANES`.
    """

    start_s: float
    end_s: float
    picture: str | None = None
    lanes: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    @property
    def time(self) -> str:
        """The time of the row, such as `01:15-01:20`."""
        return f"{clock(self.start_s)}-{clock(self.end_s)}"


@dataclass(frozen=True)
class FilmPage:
    """A finished page.

    Attributes:
        html: The file's text.
        n_rows: Number of rows.
        n_pictures: Number of pictures.
        notes: Notes for the reader.
    """

    html: str
    n_rows: int
    n_pictures: int
    notes: tuple[str, ...] = ()


def is_film(folder: Path) -> bool:
    """Whether `ingest` wrote a folder."""
    return (folder / "film.json").is_file() and (folder / "clips.json").is_file()


def build_film_page(folder: Path, title: str = "", most: int = 400) -> FilmPage:
    """Make the page of a film's folder.

    Args:
        folder: A folder that `ingest` wrote.
        title: Title of the page. By default the film's id.
        most: The most pictures. With more rows, some have none.

    Raises:
        DataError: A file of the folder is invalid.
        InputError: The folder does not hold exactly one film.
        MissingExtraError: Pillow is not installed.
    """
    videos = load_videos(folder)
    if len(videos) != 1:
        raise InputError(f"expected the folder of one film, got {len(videos):,} in {folder}.")
    (video,) = videos.values()
    rows, unit = _rows(folder, video)
    n_lines = sum(_place(rows, lane, time_s, text) for lane, time_s, text in _lines(video))
    n_pictures = _illustrate(rows, video, most)
    notes = []
    with_frames = sum(bool(list_frames(video, clip_id)) for clip_id in video.clip_ids)
    if n_pictures < len(rows) and with_frames:
        notes.append(f"{len(rows) - n_pictures:,} of {len(rows):,} rows have no picture")
    lanes = [lane for lane in LANES if any(row.lanes.get(lane) for row in rows)]
    return FilmPage(
        _render(title or video.video_id, rows, lanes, unit, n_lines),
        len(rows),
        n_pictures,
        tuple(notes),
    )


def _rows(folder: Path, video: Video) -> tuple[list[FilmRow], str]:
    """The rows, without gaps, and the unit of a row."""
    end = max(clip.end_s or 0.0 for clip in video.clips)
    starts = _shot_starts(folder / SHOTS_FILE)
    unit = "shot" if starts else f"{ROW_S:g} seconds"
    if not starts:
        starts = [i * ROW_S for i in range(max(1, int(-(-end // ROW_S))))]
    starts = [0.0, *(s for s in starts if 0 < s < end)]
    return [FilmRow(a, b) for a, b in zip(starts, [*starts[1:], end], strict=True)], unit


def _shot_starts(file: Path) -> list[float]:
    if not file.is_file():
        return []
    shots = read_object(file).get("shots")
    try:
        starts = [float(start) for start, _ in shots]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise MalformedFileError(
            "expected 'shots' as [[start_s, end_s], ...].", file, None, "ingest the film again."
        ) from error
    return sorted(set(starts))


def _lines(video: Video) -> Iterator[tuple[str, float, str]]:
    """Every line, with its lane and its time in the film."""
    for clip in video.clips:
        lanes: dict[str, Sequence[TimedText]] = {
            "dialogue": clip.subtitles,
            "heard": clip.layer(SPEECH),
            TEXT: clip.layer(TEXT),
            CAPTIONS: described(clip, CAPTIONS),
        }
        for lane, lines in lanes.items():
            for line in lines:
                yield lane, _time(clip, line), line.text


def _time(clip: Clip, line: TimedText) -> float:
    return (clip.start_s or 0.0) + (line.start_s or 0.0)


def _place(rows: Sequence[FilmRow], lane: str, time_s: float, text: str) -> int:
    row = next((row for row in rows if time_s < row.end_s), rows[-1])
    row.lanes.setdefault(lane, []).append((clock(time_s), text))
    return 1


def _illustrate(rows: Sequence[FilmRow], video: Video, most: int) -> int:
    """Give rows the frame nearest to their middle. If there are too many, spread the pictures."""
    frames: list[tuple[float, Frame]] = [
        ((clip.start_s or 0.0) + frame.time_s, frame)
        for clip in video.clips
        for frame in list_frames(video, clip.clip_id)
    ]
    n = 0
    for row in spread(rows, min(most, len(rows))) if frames else ():
        middle = (row.start_s + row.end_s) / 2
        time_s, frame = min(frames, key=lambda one: abs(one[0] - middle))
        if row.start_s - 1 <= time_s <= row.end_s + 1:
            row.picture = thumbnail(frame.path)
            n += row.picture is not None
    return n


def _render(
    title: str, rows: Sequence[FilmRow], lanes: Sequence[str], unit: str, n_lines: int
) -> str:
    from jinja2 import Environment

    room = files("eval.report")
    template = (room / "templates" / "film.html.j2").read_text(encoding="utf-8")
    script = (room / "static" / "film.js").read_text(encoding="utf-8")
    known = b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    values: dict[str, Any] = {
        "title": title,
        "rows": rows,
        "lanes": [(lane, _LABELS.get(lane, lane)) for lane in lanes],
        "unit": unit,
        "n_lines": n_lines,
        "script": script,
        "script_hash": f"sha256-{known}",
    }
    return Environment(autoescape=True).from_string(template).render(values)
