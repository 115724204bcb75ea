"""Subtitles from SRT, WebVTT and ASS files, as lines with times (library pysubs2).

What comes out is plain text: markup, scripts of HTML, positions and comments are gone, entities
are resolved once, and the speaker of a WebVTT voice tag stands before the words, as in TVQA.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longvideo_env.errors import DatasetNotFoundError, MalformedFileError, MissingExtraError
from longvideo_env.schema import TimedText

MAX_BYTES = 20_000_000
MAX_LINE = 20_000
MAX_CUES = 200_000
MAX_TIME_S = 360_000.0

_FORMATS = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa"}
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]{1,100})>")
_SCRIPT = re.compile(r"<(script|style)\b[^>]*>.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SPACE = re.compile(r"\s+")
_BLOCKS = re.compile(r"\n[ \t]*\n\s*")


@dataclass(frozen=True, slots=True)
class Subtitles:
    """What was read of a file of subtitles, and what was not.

    Attributes:
        lines: In order of time. A film without speech has none.
        problems: One for each cue that was not read, with its line and what is wrong.
        encoding: What the file is written in, such as `utf-8`.
        format: Such as `srt`.
    """

    lines: tuple[TimedText, ...]
    problems: tuple[str, ...] = ()
    encoding: str = "utf-8"
    format: str = ""

    def __str__(self) -> str:
        """`612 lines read, 2 not: line 12: ...; line 40: ...`, as it stands beside a result."""
        read = f"{len(self.lines):,} {'line' if len(self.lines) == 1 else 'lines'} read"
        if not self.problems:
            return read
        more = len(self.problems) - 3
        shown = "; ".join(self.problems[:3]) + (f"; and {more:,} more" if more > 0 else "")
        return f"{read}, {len(self.problems):,} not: {shown}"


def read_subtitles(path: Path, encoding: str | None = None) -> Subtitles:
    """Read a file of subtitles. An empty file is a film without speech.

    Args:
        path: The file.
        encoding: Of the file; found out by default.

    Raises:
        DatasetNotFoundError: The file cannot be read.
        MalformedFileError: It is too large, or no file of subtitles.
        MissingExtraError: A library is not installed.
    """
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise MalformedFileError(
            f"expected subtitles as {', '.join(_FORMATS)}, got {path.suffix or 'no suffix'!r}.",
            path,
            None,
            "convert the file, or name it after its format.",
        )
    text = _read(path, encoding)
    lines = parse_subtitles(text, kind, path)
    if not lines and text.strip():
        raise MalformedFileError(
            f"expected lines with times in {kind.upper()} format, found none.",
            path,
            None,
            "check that the file is what its name says.",
        )
    return Subtitles(lines, (), encoding or "utf-8", kind)


def parse_subtitles(text: str, kind: str, path: Path) -> tuple[TimedText, ...]:
    """The lines of subtitles of a format: srt, vtt, ass or ssa. The path is for messages."""
    try:
        import pysubs2
    except ImportError as error:
        raise MissingExtraError("pysubs2", "video") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # pysubs2 would drop tags and keep what stands in a script: `plain_text` knows better.
    keep = {"keep_html_tags": True} if kind in ("srt", "vtt") else {}
    if keep:
        text = _prepare(text)
    try:
        events = pysubs2.SSAFile.from_string(text, format_=kind, **keep)
    except (pysubs2.Pysubs2Error, ValueError, OverflowError, IndexError) as error:
        raise MalformedFileError(
            f"expected subtitles in {kind.upper()} format, but {error!s:.120}.",
            path,
            None,
            "check that the file is what its name says.",
        ) from error
    if len(events) > MAX_CUES:
        raise MalformedFileError(
            f"expected at most {MAX_CUES:,} lines, got {len(events):,}.",
            path,
            None,
            "cut the film and its subtitles into parts.",
        )
    found = []
    for event in events:
        words = plain_text(event.plaintext)
        start_s, end_s = event.start / 1000, event.end / 1000
        if words and not event.is_comment and 0 <= start_s < MAX_TIME_S:
            found.append(TimedText(words, start_s, min(max(start_s, end_s), MAX_TIME_S)))
    return tuple(sorted(found, key=lambda line: (line.start_s, line.end_s)))


def cut_to_clips(
    lines: Sequence[TimedText], spans: Sequence[tuple[float, float]]
) -> list[list[dict[str, object]]]:
    """Cut lines to clips: each goes to the clip in which its middle lies, in that clip's time.

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


def plain_text(text: str) -> str:
    """Words without markup, on one line."""
    text = _TAG.sub("", _SCRIPT.sub(" ", text))
    # Once only: what an entity resolves to is text, not markup again.
    return _SPACE.sub(" ", _CONTROL.sub(" ", html.unescape(text))).strip()[:MAX_LINE]


def _middle(line: TimedText) -> float:
    return ((line.start_s or 0.0) + (line.end_s or 0.0)) / 2


def _prepare(text: str) -> str:
    """Keep the blocks that hold a cue, and say who speaks: pysubs2 keeps notes and drops voices."""
    blocks = [block for block in _BLOCKS.split(text) if "-->" in block]
    blocks = [b for b in blocks if not re.match(r"(NOTE|STYLE|REGION)\b", b)]
    body = "\n\n".join(_VOICE.sub(lambda voice: f"{voice[1].strip()} : ", b) for b in blocks)
    return f"WEBVTT\n\n{body}\n" if text.startswith("WEBVTT") else body + "\n"


def _read(path: Path, encoding: str | None) -> str:
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise DatasetNotFoundError(
            f"the file cannot be read ({error.strerror}).", path, None, "check its path."
        ) from error
    if size > MAX_BYTES:
        raise MalformedFileError(
            f"expected subtitles of at most {MAX_BYTES:,} bytes, got {size:,}.",
            path,
            None,
            "check that it is a file of subtitles.",
        )
    if encoding is None:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise MalformedFileError(
            f"expected text in {encoding}, but {error!s:.100}.",
            path,
            None,
            "save the file as UTF-8, or say its encoding: --encoding cp1252.",
        ) from error
    longest = max(map(len, text.split("\n")), default=0)
    if longest > MAX_LINE:
        raise MalformedFileError(
            f"expected lines of at most {MAX_LINE:,} characters, got one of {longest:,}.",
            path,
            None,
            "check that it is a file of subtitles.",
        )
    return text
