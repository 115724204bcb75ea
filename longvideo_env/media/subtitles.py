"""Reads subtitle files as timed lines, with `read_subtitles`.

    found = read_subtitles(Path("film.srt"))
    found.lines     # (TimedText("Where is he?", 1.0, 2.5), ...)
    str(found)      # "612 lines read, 2 not: line 40: its times cannot be read: ..."

Formats: SRT, WebVTT, ASS, SSA, MicroDVD, MPL2, TMP, SAMI, TTML, JSON of YouTube, Whisper and
pysubs2, and transcripts with times. The content decides, not the file name. The result is plain
text: markup, drawings, positions and comments are removed, entities are resolved once, and rolling
captions appear once. The speaker of a WebVTT voice tag is put before the words, as in TVQA.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longvideo_env.errors import DatasetNotFoundError, MalformedFileError, MissingExtraError
from longvideo_env.media.captions.plain import MAX_LINE, plain_text, to_lines
from longvideo_env.schema import TimedText

if TYPE_CHECKING:
    from longvideo_env.media.captions.plain import Cues

__all__ = ["MAX_LINE", "Subtitles", "cut_to_clips", "plain_text", "read_subtitles"]

MAX_BYTES = 20_000_000
MAX_CUES = 200_000

_SUFFIXES = {
    ".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ass", ".json": "json", ".json3": "json",
    ".ttml": "xml", ".xml": "xml", ".dfxp": "xml", ".smi": "sami", ".sami": "sami",
}  # fmt: skip
_BEGINNINGS = (
    ("vtt", re.compile(r"WEBVTT(?:\s|$)")),
    ("json", re.compile(r"[{\[]\s*(?:[\"{\]}]|$)")),
    ("sami", re.compile(r"(?:<!--.{0,500}?-->\s*)?<sami\b", re.IGNORECASE | re.DOTALL)),
    ("xml", re.compile(r"<(?:\?xml|!|(?:\w{1,20}:)?tt\b|transcript|timedtext)", re.IGNORECASE)),
)  # fmt: skip
_LINES = (
    ("ass", re.compile(r"\[(?:Script Info|Events|V4\+? Styles)\]", re.IGNORECASE)),
    ("microdvd", re.compile(r" *\{ *\d{1,9} *\} *\{ *\d{1,9} *\}")),
    ("mpl2", re.compile(r"\[\d{1,9}\]\[\d{1,9}\]")),
    ("tmp", re.compile(r"\d{1,2}:\d{2}:\d{2}:(?!\d{2,3}\s*(?:\S*>|[,-]|\s\S))")),
)
_LOOK_AT = 2_000
_MEND = "check that it is a file of subtitles."


@dataclass(frozen=True, slots=True)
class Subtitles:
    """The lines of a subtitle file, and what could not be read.

    Attributes:
        lines: In order of time. A film without speech has none.
        problems: One message per cue that was not read, with its line and fault.
        encoding: The file's encoding, such as `utf-8`.
        format: Such as `srt`.
    """

    lines: tuple[TimedText, ...]
    problems: tuple[str, ...] = ()
    encoding: str = "utf-8"
    format: str = ""

    def __str__(self) -> str:
        """`612 lines read, 2 not: line 12: ...; line 40: ...`, for messages."""
        read = f"{len(self.lines):,} {'line' if len(self.lines) == 1 else 'lines'} read"
        if not self.problems:
            return read
        more = len(self.problems) - 3
        shown = "; ".join(self.problems[:3]) + (f"; and {more:,} more" if more > 0 else "")
        return f"{read}, {len(self.problems):,} not: {shown}"


def read_subtitles(path: Path, encoding: str | None = None) -> Subtitles:
    """Read a subtitle file. An empty file is a film without speech.

    Args:
        path: The file.
        encoding: The file's encoding; detected by default.

    Raises:
        DatasetNotFoundError: The file cannot be read.
        MalformedFileError: It is too large, or not a subtitle file.
        MissingExtraError: A library is not installed.
    """
    data = _bytes(path)
    try:
        from longvideo_env.media.captions import decoding

        text, encoding, problems = decoding.decode(data, encoding, path)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if not text.strip("\ufeff\0 \n\t"):
            return Subtitles((), (), encoding, _SUFFIXES.get(path.suffix.lower(), ""))
        format_ = _format_of(text, path.suffix.lower())
        found = _reader(format_)(text)
    except ImportError as error:
        raise MissingExtraError(error.name or "pysubs2", "video") from error
    except (ValueError, LookupError, OverflowError) as error:
        raise _malformed(f"{error!s:.120}", path) from error
    if len(found.cues) > MAX_CUES:
        raise MalformedFileError(
            f"expected at most {MAX_CUES:,} lines, got {len(found.cues):,}.",
            path,
            None,
            "cut the film and its subtitles into parts.",
        )
    lines, unread = to_lines(found)
    result = Subtitles(lines, (*problems, *unread), encoding, format_)
    if not lines and (unread or not found.known):
        raise _malformed(str(result) if unread else "there is none", path)
    return result


def _malformed(what: str, path: Path) -> MalformedFileError:
    return MalformedFileError(f"expected lines with times, but {what}.", path, None, _MEND)


def _format_of(text: str, suffix: str) -> str:
    """The format of a text: by its start, its first lines, then its file name."""
    text = text.lstrip("\ufeff \n\t")
    for name, pattern in _BEGINNINGS:
        if pattern.match(text):
            return name
    lines = [line for line in text[:200_000].split("\n", _LOOK_AT)[:_LOOK_AT] if line.strip()]
    for name, pattern in _LINES:
        if any(pattern.match(line.lstrip()) for line in lines[:20]):
            return name
    from longvideo_env.media.captions.cue_rows import is_transcript_line
    from longvideo_env.media.captions.stamps import read_times

    if suffix == ".vtt":
        return "vtt"
    if any(read_times(line) for line in lines):
        return "srt"
    if any(is_transcript_line(line) for line in lines):
        return "transcript"
    return _SUFFIXES.get(suffix, "srt")


def _reader(format_: str) -> Callable[[str], Cues]:
    """The reader of a format. Imports the libraries that it needs."""
    if format_ in ("microdvd", "mpl2", "tmp"):
        from longvideo_env.media.captions.cue_rows import reader_of

        return reader_of(format_)
    room = {"srt": "cues", "vtt": "cues", "ass": "cues", "json": "records", "xml": "records"}
    module = importlib.import_module(
        f"longvideo_env.media.captions.{room.get(format_, 'cue_rows')}"
    )
    reader: Callable[[str], Cues] = vars(module)[f"read_{format_}"]
    return reader


def cut_to_clips(
    lines: Sequence[TimedText], spans: Sequence[tuple[float, float]]
) -> list[list[dict[str, object]]]:
    """Assign lines to clips by their middle, with times from the start of the clip.

    Args:
        lines: In order of time.
        spans: `(start_s, end_s)` of each clip, in order and without gaps.

    Returns:
        For each clip `[{start_s, end_s, text}]`. Lines after the last clip belong to it.
    """
    cut: list[list[dict[str, object]]] = [[] for _ in spans]
    number = 0
    for line in sorted(lines, key=_middle):
        while number + 1 < len(spans) and _middle(line) >= spans[number][1]:
            number += 1
        start, end = spans[number]
        assert line.start_s is not None
        assert line.end_s is not None
        times = [round(min(max(t, start), end) - start, 3) for t in (line.start_s, line.end_s)]
        cut[number].append({"start_s": times[0], "end_s": times[1], "text": line.text})
    return cut


def _middle(line: TimedText) -> float:
    return ((line.start_s or 0.0) + (line.end_s or 0.0)) / 2


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise DatasetNotFoundError(
            f"the file cannot be read ({error.strerror}).", path, None, "check its path."
        ) from error
    if size > MAX_BYTES:
        raise MalformedFileError(
            f"expected subtitles of at most {MAX_BYTES:,} bytes, got {size:,}.", path, None, _MEND
        )
    return data
