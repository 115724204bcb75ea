"""Formats with one cue per line: MicroDVD, MPL2, TMP and transcripts; also SAMI."""

from __future__ import annotations

import re
from collections.abc import Callable

from pysubs2 import SSAFile
from pysubs2.exceptions import UnknownFPSError

from longvideo_env.media.captions.plain import Cue, Cues, end_times
from longvideo_env.media.captions.stamps import ARROW, STAMP, to_seconds

_ROWS = {
    "microdvd": re.compile(r" *\{ *\d{1,9} *\} *\{ *\d{1,9} *\}."),
    "mpl2": re.compile(r"\[\d{1,9}\]\[\d{1,9}\]"),
    "tmp": re.compile(r"\d{1,2}:\d{2}:\d{2}:."),
}
_RATE = re.compile(r"\s*\{(\d+)\}\{\1\}\s*\d{1,3}(?:\.\d{1,9})?\s*$")
_LINE = re.compile(
    rf"\s*[\[(<]?\s*{STAMP}(?:(?:{ARROW}|\s*[-\u2013\u2014,]\s*|\s+to\s+){STAMP})?\s*[\])>]?(?!\w)[\s:\-\u2013\u2014]*"
)
_DAMAGED = re.compile(r"\s*(?:[\[(]\s*\d[\w ]*:|\d+:\d+:)")
_SYNC = re.compile(r"<sync\b([^<>]*)>", re.IGNORECASE)
_BREAK = re.compile(r"<br\b[^<>]*>", re.IGNORECASE)
_START = re.compile(r"\bstart\s*=\s*[\"']?\s*(\d{1,9})[\"'\s/]*", re.IGNORECASE)


def reader_of(format_: str) -> Callable[[str], Cues]:
    """The reader of `microdvd`, `mpl2` or `tmp`, which pysubs2 reads line by line."""

    def read(text: str) -> Cues:
        found = Cues()
        mended, places = [], []
        for row, line in enumerate(text.split("\n"), 1):
            if _ROWS[format_].match(line):
                mended.append(line)
                places.append(f"line {row}")
            elif line.strip():
                found.problems.append(f"line {row}: its times cannot be read: {line!r:.60}")
        try:
            strict = not _RATE.match(mended[0]) if mended else True
            options = {"strict_fps_inference": strict} if format_ == "microdvd" else {}
            subs = SSAFile.from_string("\n".join(mended), format_=format_, **options)
        except UnknownFPSError as error:
            rate = "as a first line such as {1}{1}23.976 would"
            raise ValueError(f"the file does not say its frame rate, {rate}") from error
        # MicroDVD's first line may give the frame rate. It is not a cue.
        for event, place in zip(subs, places[len(places) - len(subs) :], strict=True):
            text = event.text.replace("\\N", "\n")
            found.cues.append(Cue(event.start / 1000, event.end / 1000, text, place))
        return found

    return read


def read_transcript(text: str) -> Cues:
    """Read lines that begin with one or two times. The words may be on the next lines."""
    found = Cues(known=False)
    starts: list[tuple[float, str]] = []
    said: list[list[str]] = []
    ends: list[float | None] = []
    for row, line in enumerate(text.split("\n"), 1):
        match = _LINE.match(line)
        if match:
            groups = match.groups()
            ends.append(to_seconds(*groups[5:10]) if groups[6] else None)
            starts.append((to_seconds(*groups[:5]), f"line {row}"))
            said.append([line[match.end() :]])
        elif _DAMAGED.match(line) or (line.strip() and not starts):
            found.problems.append(f"line {row}: its time cannot be read: {line.strip()!r:.60}")
        elif line.strip():
            said[-1].append(line)
    found.cues = end_times(
        (start, "\n".join(lines), place) for (start, place), lines in zip(starts, said, strict=True)
    )
    for cue, end in zip(found.cues, ends, strict=True):
        cue.end_s = cue.end_s if end is None else end
    return found


def is_transcript_line(line: str) -> bool:
    """Whether a line begins with a time."""
    return _LINE.match(line) is not None


def read_sami(text: str) -> Cues:
    """Read SAMI. Its cues have only a start. pysubs2 takes hours for a large file."""
    found = Cues()
    starts: list[tuple[float, str, str]] = []
    pieces = _SYNC.split(text)[1:]
    for number, (tag, said) in enumerate(zip(pieces[::2], pieces[1::2], strict=True), 1):
        start, place = _START.search(tag[:200]), f"cue {number}"
        if start is None:
            found.problems.append(f"{place}: its time cannot be read: {tag!r:.60}")
        else:
            starts.append((int(start[1]) / 1000, _BREAK.sub("\n", said), place))
    found.cues = end_times(starts)
    return found
