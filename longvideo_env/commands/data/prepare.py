"""Fetch LongTVQA or LongTVQA+, and put it into one folder, as a dataset.

    longvideo-env prepare longtvqa-plus --out data/plus
    longvideo-env prepare longtvqa --out data/tvqa --show castle --show house --frames FOLDER
    longvideo-env prepare longtvqa-plus --out data/plus --source hf:OWNER/NAME
    longvideo-env prepare longtvqa-plus --out data/plus --source DOWNLOADED_FOLDER

Each question is checked. Invalid questions are left out and counted. --timed takes TVQA's own SRT
files (a folder or an archive). They give the dialogue its times. --frames takes a folder or a
dataset on the hub (hf:OWNER/NAME) with archives `<show>_frames.tar[.gz]`, and unpacks them. An
unpacked archive is skipped, so the same command continues after an interruption. The publisher
gives the frames only to people who signed a form. This project does not distribute them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import progress_bar, run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.datasets.fetching.archives import unpack
from longvideo_env.datasets.fetching.hub import PREFIX, hub_folder
from longvideo_env.datasets.jsonfile import read_object, read_rows
from longvideo_env.datasets.loading import load_dataset
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.layout import LAYERS, find_sources, find_texts, question_files
from longvideo_env.datasets.tvqa.material import Texts, read_texts
from longvideo_env.datasets.tvqa.rows import RowPlace, read_task
from longvideo_env.errors import (
    DatasetNotFoundError,
    InvalidRowError,
    MalformedFileError,
    SpecError,
)
from longvideo_env.ids import parse_clip_id, show_of
from longvideo_env.media.frames import list_frames
from longvideo_env.media.subtitles import read_subtitles

HUB = {
    "longtvqa": "hf:longvideoagent/LongTVQA",
    "longtvqa-plus": "hf:longvideoagent/LongTVQA_plus",
}
SHOWS = ("bbt", "friends", "grey", "house", "met", "castle")


@dataclass
class Report:
    """The counts of a prepared dataset.

    Attributes:
        questions: Number of questions, by split.
        invalid: Number of invalid rows, by split. They were left out.
        videos: Number of videos.
        clips: Number of clips.
        without_text: Number of clips without dialogue.
        without_frames: Number of clips without frames.
        timed: Number of clips with times in their dialogue.
        layers: Number of copied layer files.
        unfinished: Layers that `describe` has not finished. They were not copied.
        unread: Subtitle files that were not read completely, with the problem.
        examples: The first invalid rows, as messages.
    """

    questions: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    videos: int = 0
    clips: int = 0
    without_text: int = 0
    without_frames: int = 0
    timed: int = 0
    layers: int = 0
    unfinished: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


def prepare(
    name: str,
    out: str | Path,
    *,
    source: str | None = None,
    shows: Sequence[str] = (),
    frames: str | None = None,
    timed: str | None = None,
) -> Report:
    """Put a dataset into one folder.

    Args:
        name: `longtvqa` or `longtvqa-plus`.
        out: A new folder, or the folder of an interrupted call.
        source: `hf:OWNER/NAME`, or a local folder with the same files. Default: the publisher's.
        shows: Keep only these shows, by their short names. Default: all.
        frames: `hf:OWNER/NAME` or a folder with the archives of frames.
        timed: A folder or archive of TVQA's SRT files.

    Raises:
        DataError: A source is missing or invalid.
        SpecError: The dataset or a show is unknown.
        MissingExtraError: huggingface_hub or pysubs2 is needed and not installed.
    """
    if name not in HUB:
        raise SpecError(f"unknown dataset {name!r}; expected one of: {', '.join(HUB)}.")
    for show in shows:
        if show not in SHOWS:
            raise SpecError(f"unknown show {show!r}; expected some of: {', '.join(SHOWS)}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    folder = local_folder(source or HUB[name])
    report = Report()
    texts = _write_texts(folder, out, shows, timed, report)
    found = question_files(folder)
    if not found:
        find_sources(str(folder), "train", None)  # raises, and names the expected files
    for split, path in found.items():
        _write_questions(path, split, out, shows, report)
    if frames is not None:
        _unpack_frames(frames, out / "frames", shows or SHOWS)
    _count(out, texts, report)
    return report


def local_folder(source: str, patterns: tuple[str, ...] | None = None) -> Path:
    """A local folder, or the local copy of a dataset on the hub."""
    if source.startswith(PREFIX):
        return hub_folder(source) if patterns is None else hub_folder(source, patterns)
    path = Path(source).expanduser()
    if not path.is_dir():
        raise DatasetNotFoundError("no such folder.", path, None, "give a folder or hf:OWNER/NAME.")
    return path


def _wanted(clip_or_video: str, shows: Sequence[str]) -> bool:
    name = parse_clip_id(clip_or_video)
    video_id = clip_or_video if name is None else name.video_id
    # TVQA names one show `friends_`, in its ids and in its archive of frames.
    return not shows or show_of(video_id) in shows


def _write_texts(
    folder: Path, out: Path, shows: Sequence[str], timed: str | None, report: Report
) -> Texts:
    sources = find_texts(folder)
    texts = read_texts(sources, Rejects(skip_invalid=True))
    _write(
        out / "LongTVQA_subtitles_clip_level.json",
        {c: text for c, text in texts.subtitles.items() if _wanted(c, shows)},
    )
    for name, entries in (("captions", texts.captions), ("subtitles", texts.timed)):
        kept = {clip_id: entries[clip_id] for clip_id in entries if _wanted(clip_id, shows)}
        if kept:
            _write(out / f"{name}.json", kept)
    if sources.clips is not None:
        _write(out / sources.clips.name, _of_shows(sources.clips, shows))
    for file in sources.layers:
        (out / LAYERS).mkdir(exist_ok=True)
        _write(out / LAYERS / file.name, _of_shows(file, shows))
        report.layers += 1
    report.unfinished += sorted(f.name for f in (folder / LAYERS).glob("*.partial.jsonl"))
    if timed is not None:
        _write(out / "subtitles.json", _read_srt_folder(Path(timed), out, shows, report))
    return texts


def _of_shows(file: Path, shows: Sequence[str]) -> dict[str, Any]:
    """The content of a file about clips, with only the clips of the given shows."""
    value: dict[str, Any] = dict(read_object(file))
    for name in ("clips", "failed"):
        if isinstance(clips := value.get(name), dict):
            value[name] = {clip: kept for clip, kept in clips.items() if _wanted(clip, shows)}
    return value


def _read_srt_folder(path: Path, out: Path, shows: Sequence[str], report: Report) -> dict[str, Any]:
    """Read TVQA's `<clip>.srt` files as clip id -> lines with times."""
    if path.is_file():
        unpacked = out / "srt"
        if not unpacked.is_dir():
            unpack(path, unpacked)
        path = unpacked
    files = sorted(file for file in path.rglob("*.srt") if parse_clip_id(file.stem))
    if not files:
        raise DatasetNotFoundError(
            "expected files such as s05e02_seg02_clip_00.srt.", path, None, "check the path."
        )
    timed = {}
    with progress_bar() as bar:
        for file in bar.track(files, description="subtitles"):
            if not _wanted(file.stem, shows):
                continue
            try:
                found = read_subtitles(file)
            except MalformedFileError as error:
                report.unread.append(str(error))
                continue
            if found.problems:
                report.unread.append(f"{file.name}: {found}")
            if found.lines:
                timed[file.stem] = [
                    {"start_s": x.start_s, "end_s": x.end_s, "text": x.text} for x in found.lines
                ]
    return timed


def _write_questions(
    path: Path, split: str, out: Path, shows: Sequence[str], report: Report
) -> None:
    rejects = Rejects(skip_invalid=True)
    kept, seen = [], set()
    for number, row in read_rows(path, rejects):
        try:
            task = read_task(row, RowPlace(path, number))
        except InvalidRowError as error:
            rejects.add(error)
            continue
        if _wanted(task.question.video_id, shows) and str(task.qid) not in seen:
            seen.add(str(task.qid))
            kept.append(row)
    _write(out / f"questions_{split}.json", kept)
    report.questions[split] += len(kept)
    report.invalid[split] += len(rejects.errors)
    report.examples += [str(error) for error in rejects.errors[:3]]


def _unpack_frames(source: str, out: Path, shows: Iterable[str]) -> None:
    patterns = tuple(f"*{show}_frames.tar*" for show in shows)
    folder = local_folder(source, patterns)
    for show in shows:
        archives = sorted(folder.rglob(f"{show}_frames.tar*"))
        target = out / f"{show}_frames"
        if not archives or target.is_dir():
            continue
        _unpack_show(archives[0], target)


def _unpack_show(archive: Path, target: Path) -> None:
    scratch = target.with_name(f".{target.name}")
    if not scratch.is_dir():  # else a call was interrupted between unpacking and renaming
        with progress_bar() as bar:
            # Pictures hardly compress, so the archive is about as large as its files.
            task = bar.add_task(target.name, total=archive.stat().st_size)
            unpack(archive, scratch, tick=lambda n: bar.update(task, completed=n))
    inner = scratch / target.name
    (inner if inner.is_dir() else scratch).rename(target)
    if scratch.is_dir():
        shutil.rmtree(scratch)


def _count(out: Path, texts: Texts, report: Report) -> None:
    split = next((s for s, n in report.questions.items() if n), None)
    if split is None:
        raise DatasetNotFoundError(
            "no question is left.", out, None, "check the invalid rows, or --show."
        )
    videos = load_dataset(str(out), split).videos
    report.videos = len(videos)
    for video_id in videos:
        video = videos[video_id]
        for clip in video.clips:
            report.clips += 1
            report.without_text += not clip.subtitles
            report.timed += bool(clip.subtitles and clip.subtitles[0].start_s is not None)
            report.without_frames += not list_frames(video, clip.clip_id)


def _write(path: Path, value: object) -> None:
    """Write a file completely, or not at all if the call is interrupted."""
    part = path.with_suffix(".part")
    with open(part, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False)
    os.replace(part, path)


def report_table(report: Report) -> Table:
    """The report as a table."""
    table = Table("found", "n", show_header=False)
    for split, n in report.questions.items():
        left_out = report.invalid[split]
        table.add_row(
            f"questions, {split}", f"{n:,}" + (f" ({left_out:,} left out)" if left_out else "")
        )
    for label, n in (
        ("videos", report.videos),
        ("clips", report.clips),
        ("clips without text", report.without_text),
        ("clips whose text has times", report.timed),
        ("clips without frames", report.without_frames),
        *([("layers, made by models", report.layers)] if report.layers else []),
    ):
        table.add_row(label, f"{n:,}")
    table.columns[1].justify = "right"
    return table


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env prepare",
        description=__doc__,
        tables=True,
    )
    add = parser.add_argument
    add("dataset", choices=sorted(HUB), help="the dataset")
    add("--out", required=True, help="a new folder, or the folder of an interrupted call")
    add("--source", help="hf:OWNER/NAME[@REVISION], or a folder with the downloaded files")
    add("--show", action="append", default=[], choices=SHOWS, help="keep only this show; repeats")
    add("--frames", metavar="SOURCE", help="hf:OWNER/NAME or a folder with the archives of frames")
    add("--timed", metavar="PATH", help="folder or archive of TVQA's SRT files")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("prepare", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    report = prepare(
        args.dataset,
        args.out,
        source=args.source,
        shows=args.show,
        frames=args.frames,
        timed=args.timed,
    )
    output_console().print(report_table(report))
    if report.unread:
        sys.stderr.write(f"subtitles: {len(report.unread):,} files were not read completely\n")
    for name in report.unfinished:
        sys.stderr.write(f"left out: {LAYERS}/{name}: describe has not finished this layer\n")
    for example in report.unread[:3] + report.examples:
        sys.stderr.write(f"left out: {example}\n")
