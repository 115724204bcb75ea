"""Turn a film into a folder of clips with frames and subtitles, as a dataset.

    longvideo-env ingest film.mkv --subtitles film.srt --out data/film
    longvideo-env ask data/film "Who opens the box?" --options "the old man" "nobody"
    longvideo-env ingest films/ --out data/films
    longvideo-env ingest talk.mp4 --speech whisper:small --read-text rapidocr --out data/talk

Subtitles are taken from the file with the film's name in its folder (`film.srt`, `film.en.vtt`),
unless --subtitles names others. For a folder of films, each film gets its own folder in --out.
After an interruption, the same command continues. An ingested folder has:

- `clips.json`: the start and the end of each clip in the film;
- `subtitles.json`, and with captions `captions.json`: lines with times, cut to clips;
- `frames/<clip>/00001.jpg` and so on;
- `film.json`: facts about the film and the options;
- `layers/`: the output of models for speech, text in frames and captions.

The folder is complete, or it does not appear.

A film without subtitles is transcribed (--speech auto) if the extra `speech` is installed and a
model is available without a download. The lines are also written to `speech.srt`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.commands.data.ingest_layers import AUTO, NONE, find_ear, make_layers, write_shots
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import progress_bar, run_command
from longvideo_env.datasets.layers import CAPTIONS, TEXT
from longvideo_env.datasets.perceiving import GROUPS
from longvideo_env.datasets.tvqa.material import ClipTimes
from longvideo_env.errors import InputError, MalformedFileError, SpecError
from longvideo_env.ids import safe_video_id
from longvideo_env.media.film import FilmInfo, pictures_at, survey
from longvideo_env.media.subtitles import Subtitles, cut_to_clips, read_subtitles
from longvideo_env.specs import entry_point_names, is_attribute

CLIP_S = 60.0
FPS = 3.0
LONGEST_SIDE = 640
_QUALITY = 85

Tick: TypeAlias = Callable[[str, float, float | None], None]
"""Called with the current step, the second of the film reached, and the film's length if known."""


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a film is cut.

    Attributes:
        clip_s: Seconds of a clip. With `scenes`, the maximum.
        scenes: Cut where the picture changes most, after at least half of `clip_s`.
        fps: Frames per second.
        longest_side: Larger frames are scaled down to this many pixels.
        partial: Use the readable part of a damaged film.
        encoding: Encoding of the subtitles. Default: detected.
        speech: The speech model: `auto`, `none`, a spec, or the folder of a Whisper model. `auto`
            transcribes a film without subtitles if it needs no download.
        read_text: Spec of the model that reads text in the frames, or empty.
        describe: Spec of the model that captions the frames, or empty.
        shots: Find the cuts between shots, for the film's page.

    Raises:
        SpecError: A value is out of range.
    """

    clip_s: float = CLIP_S
    scenes: bool = False
    fps: float = FPS
    longest_side: int = LONGEST_SIDE
    partial: bool = False
    encoding: str | None = None
    speech: str = AUTO
    read_text: str = ""
    describe: str = ""
    shots: bool = False

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
    tick: Tick | None = None,
) -> dict[str, Any]:
    """Write the folder of a film.

    Args:
        film: The film, in any container that FFmpeg reads.
        out: A new folder.
        subtitles: A file in any format of `read_subtitles`. Without it and without speech, the
            clips have no dialogue.
        captions: A file with descriptions of the picture, in the same formats.
        options: How to cut.
        tick: Called with the current step and the second of the film reached. Default: a progress
            bar.

    Returns:
        The content of `film.json`, with the outcome of each layer as `layers`.

    Raises:
        InputError: The folder is not empty.
        DataError: The film or a text file is missing or invalid.
        SpecError: An option is out of range.
        MissingExtraError: PyAV, Pillow or pysubs2 is not installed.
    """
    film, out, options = Path(film), Path(out), options or IngestOptions()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty folder. Fix: give another folder.")
    if tick is None:
        with _bar() as shown:
            return _ingest(
                film, out, {"subtitles": subtitles, "captions": captions}, options, shown
            )
    return _ingest(film, out, {"subtitles": subtitles, "captions": captions}, options, tick)


@contextmanager
def _bar() -> Iterator[Tick]:
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        yield lambda what, time_s, length_s: bar.update(
            task, description=what, completed=round(time_s), total=length_s and round(length_s)
        )


def _ingest(
    film: Path,
    out: Path,
    files: dict[str, str | Path | None],
    options: IngestOptions,
    tick: Tick,
) -> dict[str, Any]:
    texts = {
        name: read_subtitles(Path(path), options.encoding)
        for name, path in files.items()
        if path is not None
    }
    ear, note = find_ear(options.speech, has_subtitles="subtitles" in texts)
    info = survey(film, options.fps, lambda t: tick("reading", t, None))
    _check(film, info, options, bool(texts) or ear is not None)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        folder = scratch / "new"
        folder.mkdir()
        spans = cut_spans(info, options)
        clip_ids = _clip_ids(film, len(spans))
        _write_texts(folder, clip_ids, spans, texts, options)
        at = lambda t: tick("writing", t, info.length_s)  # noqa: E731 - a callback
        n = _write_frames(folder, film, clip_ids, spans, options, at) if info.n_pictures else 0
        specs = {TEXT: options.read_text, CAPTIONS: options.describe}
        made = [*make_layers(folder, film, ear, specs, info.length_s, tick)]
        if options.shots:
            made.append(write_shots(folder, film))
        record = _record(film, info, options, len(spans), n, texts)
        record["layers"] = [*made, *([note] if note else [])]
        _write_json(folder / "film.json", record)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    finally:
        shutil.rmtree(scratch)
    return record


def cut_spans(info: FilmInfo, options: IngestOptions) -> list[tuple[float, float]]:
    """The start and end of each clip. The last clip has at least a tenth of the usual length."""
    length, longest = info.length_s, options.clip_s
    cuts = [0.0]
    while length - cuts[-1] > longest * 1.1:
        latest = cuts[-1] + longest
        if options.scenes:
            window = [c for c in info.changes if cuts[-1] + longest / 2 <= c[0] <= latest]
            # Of equal changes take the last one, so that a still picture has few cuts.
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
            "copy the file again, or use the readable part with --partial.",
        )
    if not info.n_pictures and not has_text:
        raise MalformedFileError(
            "the film has neither pictures nor subtitles, so no question can be asked.",
            film,
            None,
            "give --subtitles FILE, or --speech whisper:small.",
        )


def _clip_ids(film: Path, n: int) -> list[str]:
    video_id, width = safe_video_id(film.stem), max(2, len(str(n - 1)))
    return [f"{video_id}_seg01_clip_{i:0{width}d}" for i in range(n)]


def _write_texts(
    folder: Path,
    clip_ids: Sequence[str],
    spans: Sequence[tuple[float, float]],
    texts: dict[str, Subtitles],
    options: IngestOptions,
) -> None:
    times = ClipTimes(dict(zip(clip_ids, spans, strict=True)), options.fps)
    _write_json(folder / "clips.json", times.as_json())
    for name, found in {"subtitles": Subtitles(()), **texts}.items():
        cut = cut_to_clips(found.lines, spans)
        _write_json(folder / f"{name}.json", dict(zip(clip_ids, cut, strict=True)))


def _write_frames(
    folder: Path,
    film: Path,
    clip_ids: Sequence[str],
    spans: Sequence[tuple[float, float]],
    options: IngestOptions,
    tick: Any,
) -> int:
    """Write the frames. Frame `k` of a clip is at `(k - 1) / fps` seconds after its start."""
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
    texts: dict[str, Subtitles],
) -> dict[str, Any]:
    return {
        "film": film.name,
        "n_bytes": film.stat().st_size,
        "length_s": round(info.length_s, 3),
        "first_picture_s": info.first_picture_s,
        "fault": info.fault,
        "clips": n_clips,
        "frames": n_frames,
        **{name: len(x.lines) for name, x in {"subtitles": Subtitles(()), **texts}.items()},
        "read": {name: str(found) for name, found in texts.items()},
        "not_read": {name: list(found.problems) for name, found in texts.items()},
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
        findings="some films of a folder failed",
    )
    add = parser.add_argument
    add("film", help="the film, in any container that FFmpeg reads, or a folder of films")
    add("--out", required=True, help="a new folder; for several films, it gets a folder for each")
    add("--subtitles", default=AUTO, metavar="auto|none|FILE|DIR", help="the subtitle file, or the "
        "folder of them; auto: the file with the film's name in its folder")  # fmt: skip
    add("--captions", metavar="FILE|SPEC", help="a file of captions, in the same formats; or the "
        "model that captions the frames, such as vlm:FOLDER")  # fmt: skip
    add("--speech", default=AUTO, metavar="auto|none|SPEC|FOLDER", help="the speech model, such "
        "as whisper:small or a Whisper model's folder")  # fmt: skip
    add("--read-text", default="", metavar="SPEC", help="the model that reads text in the frames, "
        "such as rapidocr")  # fmt: skip
    add("--shots", action="store_true", help="find the cuts between shots, for the film's page")
    add("--encoding", help="encoding of the text files (default: detected)")
    add("--clip-s", type=float, default=CLIP_S, help="seconds per clip (default: %(default)g)")
    add("--scenes", action="store_true", help="cut where the picture changes most, after at "
        "least half of --clip-s")  # fmt: skip
    add("--fps", type=float, default=FPS, help="frames per second (default: %(default)g)")
    add("--longest-side", type=int, default=LONGEST_SIDE, help="most pixels of a frame's side")
    add("--partial", action="store_true", help="use the readable part of a damaged film")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = build_parser()
    args = parser.parse_args(
        # A file name that begins with a dash is not an option.
        [f"./{x}" if x.startswith("-") and Path(x).exists() else x for x in given]
    )
    return run_command("ingest", lambda: _run(args), resumes=Path(args.film).is_dir())


def _run(args: argparse.Namespace) -> int:
    names = (
        *("clip_s", "scenes", "fps", "longest_side", "partial", "encoding"),
        *("speech", "read_text", "shots"),
    )
    spec = args.captions if args.captions and not Path(args.captions).exists() else ""
    is_spec = spec.partition(":")[0] in entry_point_names(GROUPS[CAPTIONS]) or is_attribute(spec)
    options = IngestOptions(
        **{name: getattr(args, name) for name in names}, describe=spec if is_spec else ""
    )
    from longvideo_env.commands.data.ingest_folder import find_text, ingest_folder

    film = Path(args.film)
    texts = {
        "subtitles": None if args.subtitles == NONE else args.subtitles,
        "captions": None if is_spec else args.captions,
    }
    if film.is_dir():
        if args.subtitles == AUTO:
            texts["subtitles"] = str(film)
        return ingest_folder(film, Path(args.out), texts, options)
    if args.subtitles == AUTO:
        found = find_text(film, film.parent) if film.is_file() else None
        texts["subtitles"] = found
        if found is not None:
            sys.stdout.write(f"subtitles: {found} beside the film; --subtitles none: without\n")
    report(args.out, ingest(film, args.out, **texts, options=options))
    return 0


def report(out: str | Path, record: dict[str, Any]) -> None:
    """Print the counts of a film, its text files and its layers, and warn of a damaged film."""
    minutes, seconds = divmod(round(record["length_s"]), 60)
    counts = ("clips", "frames", "subtitles", *(("captions",) if "captions" in record else ()))
    found = ", ".join(f"{record[name]:,} {name}" for name in counts)
    sys.stdout.write(f"{out}: {minutes}:{seconds:02d} of film; {found}\n")
    for name, read in record["read"].items():
        sys.stdout.write(f"{name}: {read}\n")
    for line in record["layers"]:
        sys.stdout.write(f"{line}\n")
    if record["fault"]:
        sys.stderr.write(
            f"ingest: the film breaks off after {record['length_s']:.1f} s; the part before is "
            f"used: {record['fault']}\n"
        )
