"""Turn a film into a folder of clips with frames and subtitles, which the environment opens.

    longvideo-env ingest film.mkv --subtitles film.srt --out data/film
    longvideo-env ask data/film "Who opens the box?" --options "the old man" "nobody"

The folder holds `clips.json` (where each clip lies in the film), `subtitles.json` and perhaps
`captions.json` (lines with times, cut to clips), `frames/<clip>/00001.jpg` onward, and `film.json`.
It appears whole or not at all.

Exit codes: 0 done; 2 bad arguments, film or subtitles; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import progress_bar, run_command
from longvideo_env.datasets.tvqa.material import ClipTimes
from longvideo_env.errors import MalformedFileError, SpecError
from longvideo_env.ids import safe_video_id
from longvideo_env.media.film import FilmInfo, pictures_at, survey
from longvideo_env.media.subtitles import cut_to_clips, read_subtitles
from longvideo_env.schema import TimedText

CLIP_S = 60.0
FPS = 3.0
LONGEST_SIDE = 640
_QUALITY = 85


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a film is cut.

    Attributes:
        clip_s: Length of a clip; with `scenes`, the longest.
        scenes: Cut where the picture changes most, between half of `clip_s` and all of it.
        fps: Frames a second.
        longest_side: Larger frames are made smaller.
        partial: Take what can be decoded of a damaged film.
        encoding: Of the subtitles; found out by default.

    Raises:
        SpecError: A value is out of range.
    """

    clip_s: float = CLIP_S
    scenes: bool = False
    fps: float = FPS
    longest_side: int = LONGEST_SIDE
    partial: bool = False
    encoding: str | None = None

    def __post_init__(self) -> None:
        limits = {"clip_s": (1, 3600), "fps": (0.01, 60), "longest_side": (16, 8192)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SpecError(f"ingest: {name} must be {least} to {most}, got {value}.")


def ingest(
    film: str | Path,
    out: str | Path,
    *,
    subtitles: str | Path | None = None,
    captions: str | Path | None = None,
    options: IngestOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the folder of a film.

    Args:
        film: Any container that FFmpeg knows.
        out: A new folder.
        subtitles: SRT, WebVTT or ASS; without them the clips have no dialogue.
        captions: Descriptions of what is to be seen, in the same formats.
        options: How to cut.
        progress: Shows how far it is.

    Returns:
        What `film.json` holds.

    Raises:
        DataError: The film or a file of text is missing or wrong.
        SpecError: An option is out of range, or the folder is not empty.
        MissingExtraError: PyAV, Pillow or pysubs2 is not installed.
    """
    film, out, options = Path(film), Path(out), options or IngestOptions()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SpecError(f"{out} exists and is not an empty folder. To mend it: name another.")
    texts = {
        name: read_subtitles(Path(path), options.encoding)
        for name, path in (("subtitles", subtitles), ("captions", captions))
        if path is not None
    }
    with progress or progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        info = survey(film, options.fps, lambda t: bar.update(task, completed=round(t)))
        _check(film, info, options, bool(texts))
        bar.update(task, total=round(info.length_s), completed=0, description="writing")
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
        try:
            folder = scratch / "new"
            folder.mkdir()
            spans = cut_spans(info, options)
            clip_ids = _clip_ids(film, len(spans))
            _write_texts(folder, clip_ids, spans, texts, options)
            tick = lambda t: bar.update(task, completed=round(t))  # noqa: E731 - a callback
            n = (
                _write_frames(folder, film, clip_ids, spans, options, tick)
                if info.n_pictures
                else 0
            )
            record = _record(film, info, options, len(spans), n, texts)
            _write_json(folder / "film.json", record)
            if out.exists():
                out.rmdir()
            folder.rename(out)
        finally:
            shutil.rmtree(scratch)
    return record


def cut_spans(info: FilmInfo, options: IngestOptions) -> list[tuple[float, float]]:
    """Where each clip starts and ends. The last is at least a tenth of a clip long."""
    length, longest = info.length_s, options.clip_s
    cuts = [0.0]
    while length - cuts[-1] > longest * 1.1:
        latest = cuts[-1] + longest
        if options.scenes:
            window = [c for c in info.changes if cuts[-1] + longest / 2 <= c[0] <= latest]
            # Of equal changes the latest, so that a still picture is cut as seldom as can be.
            latest = max(window, key=lambda c: (c[1], c[0]))[0] if window else latest
        cuts.append(round(latest, 3))
    return list(zip(cuts, [*cuts[1:], round(length, 3)], strict=True))


def _check(film: Path, info: FilmInfo, options: IngestOptions, has_text: bool) -> None:
    if info.fault is not None and not options.partial:
        announced = "" if info.announced_s is None else f" of {info.announced_s:.1f} s"
        raise MalformedFileError(
            f"the film breaks off after {info.length_s:.1f} s{announced} ({info.fault}).",
            film,
            None,
            "copy the file again, or take what is there: --partial.",
        )
    if not info.n_pictures and not has_text:
        raise MalformedFileError(
            "there are neither pictures nor subtitles, so there is nothing to ask about.",
            film,
            None,
            "pass --subtitles FILE.",
        )


def _clip_ids(film: Path, n: int) -> list[str]:
    video_id, width = safe_video_id(film.stem), max(2, len(str(n - 1)))
    return [f"{video_id}_seg01_clip_{i:0{width}d}" for i in range(n)]


def _write_texts(
    folder: Path,
    clip_ids: Sequence[str],
    spans: Sequence[tuple[float, float]],
    texts: dict[str, tuple[TimedText, ...]],
    options: IngestOptions,
) -> None:
    times = ClipTimes(dict(zip(clip_ids, spans, strict=True)), options.fps)
    _write_json(folder / "clips.json", times.as_json())
    for name, lines in {"subtitles": (), **texts}.items():
        cut = cut_to_clips(lines, spans)
        _write_json(folder / f"{name}.json", dict(zip(clip_ids, cut, strict=True)))


def _write_frames(
    folder: Path,
    film: Path,
    clip_ids: Sequence[str],
    spans: Sequence[tuple[float, float]],
    options: IngestOptions,
    tick: Any,
) -> int:
    """Frame `k` of a clip is what is seen `(k - 1) / fps` seconds after its start."""
    wanted: list[tuple[float, Path]] = []
    for clip_id, (start, end) in zip(clip_ids, spans, strict=True):
        target = folder / "frames" / clip_id
        number = 0
        while (time_s := start + number / options.fps) < end - 1e-6:
            number += 1
            wanted.append((time_s, target / f"{number:05d}.jpg"))
    n = 0
    times = [time_s for time_s, _ in wanted]
    for i, image in pictures_at(film, times, options.longest_side, tick):
        path = wanted[i][1]
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=_QUALITY)
        n += 1
    return n


def _record(
    film: Path,
    info: FilmInfo,
    options: IngestOptions,
    n_clips: int,
    n_frames: int,
    texts: dict[str, tuple[TimedText, ...]],
) -> dict[str, Any]:
    return {
        "film": film.name,
        "n_bytes": film.stat().st_size,
        "length_s": round(info.length_s, 3),
        "first_picture_s": info.first_picture_s,
        "fault": info.fault,
        "clips": n_clips,
        "frames": n_frames,
        **{name: len(lines) for name, lines in {"subtitles": (), **texts}.items()},
        "options": asdict(options),
    }


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=0, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env ingest",
        description=__doc__,
    )
    add = parser.add_argument
    add("film", help="the film, in any container that FFmpeg knows")
    add("--out", required=True, help="a new folder")
    add("--subtitles", help="its dialogue: .srt, .vtt, .ass or .ssa")
    add("--captions", help="what is to be seen, in one of the same formats, for vision=captions")
    add("--encoding", help="of these files (default: UTF-8, or UTF-16 by its first bytes)")
    add("--clip-s", type=float, default=CLIP_S, help="seconds of a clip (default: %(default)g)")
    add("--scenes", action="store_true", help="cut where the picture changes most, at least "
        "half of --clip-s apart and at most all of it")  # fmt: skip
    add("--fps", type=float, default=FPS, help="frames a second (default: %(default)g)")
    add("--longest-side", type=int, default=LONGEST_SIDE, help="pixels (default: %(default)s)")
    add("--partial", action="store_true", help="take what can be decoded of a damaged film")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("ingest", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    names = ("clip_s", "scenes", "fps", "longest_side", "partial", "encoding")
    options = IngestOptions(**{name: getattr(args, name) for name in names})
    record = ingest(
        args.film, args.out, subtitles=args.subtitles, captions=args.captions, options=options
    )
    minutes, seconds = divmod(round(record["length_s"]), 60)
    counts = ("clips", "frames", "subtitles", *(("captions",) if args.captions else ()))
    found = ", ".join(f"{record[name]:,} {name}" for name in counts)
    sys.stdout.write(f"{args.out}: {minutes}:{seconds:02d} of film; {found}\n")
    if record["fault"]:
        sys.stderr.write(
            f"ingest: the film is damaged; what was decoded is there: {record['fault']}\n"
        )
