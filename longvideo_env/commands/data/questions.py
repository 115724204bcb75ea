"""Start a file of questions for a film: columns, two examples and a table of the film's clips.

    longvideo-env ingest film.mp4 --out film
    longvideo-env questions film                 # writes film/questions.csv, if it does not exist

Replace the examples. Each row is one question. `start_s` and `end_s` are seconds of the whole film
and may be empty. Then `longvideo-env show film/questions.csv` prints the questions that were read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.errors import InputError
from longvideo_env.schema import Video

COLUMNS = ("qid", "question", "a0", "a1", "a2", "a3", "answer", "video", "start_s", "end_s")
_SHOWN = 60


def example_rows(videos: Mapping[str, Video]) -> list[tuple[str, ...]]:
    """Two example questions about each film."""
    rows: list[tuple[str, ...]] = []
    for video_id, video in videos.items():
        first = video.clips[0]
        spoken = first.subtitles[0].text if first.subtitles else "..."
        start, end = first.start_s or 0.0, first.end_s or 60.0
        asked = f'EXAMPLE: who says "{spoken[:60]}"?'
        options = ("first option", "second option", "third option", "None of the above")
        rows.append(("", asked, *options, "a1", video_id, f"{start:g}", f"{end:g}"))
        rows.append(("", "EXAMPLE: how does it end?", *options[:2], "", "", "A", video_id, "", ""))
    return rows


def clip_table(videos: Mapping[str, Video]) -> Table:
    """The times and the first line of dialogue of each clip."""
    table = Table("clip", "start_s", "end_s", "first line")
    for video in videos.values():
        for clip in video.clips[:_SHOWN]:
            times = ["" if t is None else f"{t:g}" for t in (clip.start_s, clip.end_s)]
            table.add_row(clip.clip_id, *times, clip.subtitles[0].text if clip.subtitles else "")
    return table


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env questions",
        description=__doc__,
        tables=True,
    )
    add = parser.add_argument
    add("folder", type=Path, help="the film's folder, made by ingest")
    add("--out", type=Path, help="the file to write (default: FOLDER/questions.csv)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)

    def start() -> None:
        videos = load_videos(args.folder)
        out = args.out or args.folder / "questions.csv"
        text = io.StringIO()
        csv.writer(text).writerows([COLUMNS, *example_rows(videos)])
        try:
            with open(out, "x", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        except FileExistsError as error:
            raise InputError(f"{out} already exists. Fix: give another --out FILE.") from error
        console = output_console()
        console.print(clip_table(videos))
        console.print(f"{out}: replace the examples, then longvideo-env show {out}", markup=False)

    return run_command("questions", start)
