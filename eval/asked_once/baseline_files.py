"""Copy the files of a baseline to names that the dataset readers expect.

Subtitles may have these forms:

- LongTVQA: a JSON object of clips or of videos;
- TVQA: JSON Lines, or an array, of `{"vid_name": CLIP, "sub": [{"text", "start", "end"}]}`;
- a folder with `CLIP.srt` for each clip, at any depth.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longvideo_env.datasets.jsonfile import read_object, read_rows, read_text
from longvideo_env.datasets.own.sidefiles import SUFFIXES, read_lines
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.datasets.tvqa.texts import is_time
from longvideo_env.errors import DataError, InvalidRowError, MalformedFileError, SpecError
from longvideo_env.ids import parse_clip_id

_HEAD = 4096


@dataclass
class SubtitleNotes:
    """Subtitles that were not read.

    Attributes:
        n_clips: Clips whose dialogue was read.
        rejects: Rows and files that could not be read.
        other: Files that name no clip.
    """

    n_clips: int = 0
    rejects: Rejects = field(default_factory=lambda: Rejects(skip_invalid=True))
    other: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Notes for the reader of the result. Empty if all subtitles were read."""
        found = []
        if self.other:
            found.append(f"{len(self.other):,} files name no clip, such as {self.other[0]}")
        if self.rejects.errors:
            first = self.rejects.errors[0]
            found.append(f"{len(self.rejects.errors):,} rows left out, such as: {first}")
        for what, named in (("not", self.rejects.unread), ("in part", self.rejects.partly)):
            if named:
                name, why = next(iter(named.items()))
                found.append(f"{len(named):,} files read {what}, such as {name}: {why}")
        return [f"subtitles: {line}" for line in found]


@contextmanager
def side_by_side(
    questions: Path, subtitles: Path, notes: SubtitleNotes, *, skip_invalid: bool
) -> Iterator[Path]:
    """Put questions and subtitles side by side in a temporary folder. Gives the questions' path.

    Args:
        questions: The questions.
        subtitles: The subtitles: a file, or a folder.
        notes: Collects the subtitles that are not read.
        skip_invalid: Whether to leave out invalid rows of subtitles.

    Raises:
        SpecError: A file does not exist.
        DataError: The subtitles are invalid.
    """
    if not questions.is_file():
        raise SpecError(f"--questions-path {questions} is not a file.")
    if not subtitles.exists():
        raise SpecError(f"--subs-path {subtitles} is neither a file nor a folder.")
    notes.rejects = Rejects(skip_invalid)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"questions{questions.suffix}"
        shutil.copyfile(questions, copy)  # not a link: readers resolve links
        _lay_beside(subtitles, Path(folder), notes)
        try:
            yield copy
        except DataError as error:
            # Name the given file, not its copy.
            at_fault = questions if Path(str(error.file)).name == copy.name else subtitles
            raise type(error)(error.problem, at_fault, error.row, error.mend) from error


def _lay_beside(subtitles: Path, folder: Path, notes: SubtitleNotes) -> None:
    timed: Mapping[str, Any] | None = None
    if subtitles.is_dir():
        timed = read_folder(subtitles, notes)
    elif is_published(subtitles):
        timed = read_published(subtitles, notes)
    if timed is not None:
        notes.n_clips = len(timed)
        path = folder / "subtitles.json"
        path.write_text(json.dumps(timed, ensure_ascii=False), encoding="utf-8")
        return
    keys = list(read_object(subtitles))
    level = "clip" if any(parse_clip_id(key) for key in keys[:50]) else "episode"
    shutil.copyfile(subtitles, folder / f"questions_subtitle_{level}_level.json")


def is_published(file: Path) -> bool:
    """Whether a file holds rows of `vid_name` and `sub`, the published form of TVQA."""
    head = read_text(file)[:_HEAD].lstrip("\ufeff \t\r\n[")
    return head.startswith("{") and '"sub"' in head and '"vid_name"' in head


def read_published(file: Path, notes: SubtitleNotes) -> dict[str, list[dict[str, Any]]]:
    """Map each clip id to its timed lines, from TVQA's rows.

    Raises:
        MalformedFileError: The file is not JSON, or has no valid row.
        InvalidRowError: A row is invalid, and invalid rows are not left out.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for number, row in read_rows(file, notes.rejects):
        problem = _row_problem(row)
        if problem is not None:
            notes.rejects.add(InvalidRowError(problem, file, number, MEND_ROW))
            continue
        found[str(row["vid_name"])] = [  # type: ignore[index]
            {"text": line["text"].strip(), "start_s": line["start"], "end_s": line["end"]}
            for line in row["sub"]  # type: ignore[index]
            if line["text"].strip()
        ]
    if not found:
        raise MalformedFileError("expected rows of vid_name and sub, got no valid row.", file)
    return found


def _row_problem(row: object) -> str | None:
    if not isinstance(row, dict) or not isinstance(row.get("sub"), list):
        return "expected an object with `vid_name` and a list `sub`."
    if parse_clip_id(str(row.get("vid_name"))) is None:
        return f"expected a clip id in 'vid_name', got {row.get('vid_name')!r:.60}."
    for line in row["sub"]:
        whole = isinstance(line, dict) and isinstance(line.get("text"), str)
        if not whole or not all(is_time(line.get(n)) for n in ("start", "end")):
            return f"expected a line as {{text, start, end}} in seconds, got {line!r:.80}."
    return None


def read_folder(folder: Path, notes: SubtitleNotes) -> dict[str, list[dict[str, Any]]]:
    """Map each clip id to its timed lines, from a folder of subtitle files named after clips.

    Raises:
        MalformedFileError: No file is named after a clip.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        if parse_clip_id(path.stem) is None:
            notes.other.append(path.name)
            continue
        lines = read_lines(path, notes.rejects) if path.stat().st_size else ()
        found[path.stem] = [
            {"text": line.text, "start_s": line.start_s, "end_s": line.end_s} for line in lines
        ]
    if not found:
        raise MalformedFileError(
            "expected files named after clips, such as castle_s01e01_seg02_clip_00.srt, got none.",
            folder,
        )
    return found
