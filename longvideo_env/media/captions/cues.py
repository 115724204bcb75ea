"""SubRip, WebVTT and ASS: repaired where the library would lose words, then read by it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import webvtt
from pysubs2 import SSAFile
from pysubs2.formats.subrip import SubripFormat

from longvideo_env.media.captions.plain import MAX_TIME_S, Cue, Cues
from longvideo_env.media.captions.stamps import is_damaged, read_stamp, read_times, write_stamp

_SETTING = re.compile(r"(?<!\S)(?:[XY][12]:\d+|[a-z]+:\S+)(?:\s+|$)", re.IGNORECASE)
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]+([^<>]{1,100})>")
_REMARK = re.compile(r"\{[^{}\\]*\}")
_KARAOKE = re.compile(r"<\d\d:\d\d:\d\d\.\d+>")
_NOT_CUES = re.compile(r"(NOTE|STYLE|REGION)(?:\s|$)")
_HEADER = re.compile(r"[\w-]+ ?[:=]")


class _Subrip(SubripFormat):
    """SubRip with times only on their own line, because words may contain times, too."""

    TIMESTAMP = re.compile(r"(?:^|(?<= --> ))(\d\d):(\d\d):(\d\d),(\d{3})(?= --> |$)")


@dataclass(slots=True)
class _Block:
    """A line of times, the text below it, and the number above it."""

    row: int
    number: int | None
    times: tuple[float, float, str] | None
    source: str
    body: list[str] = field(default_factory=list)


def read_srt(text: str) -> Cues:
    """Read SubRip. Cues may contain blank lines and numbers, and their times may be damaged."""
    found = Cues()
    mended: list[str] = []
    places = []
    blocks = _srt_blocks(text.split("\n"), found)
    found.known = bool(blocks)
    for block, following in zip_longest(blocks, blocks[1:]):
        next_number = following.number if following else None
        body = _without_lost(block, next_number, found)
        if block.times is None or block.times[0] >= MAX_TIME_S:
            found.problems.append(_damaged(block.row, block.source))
            continue
        start, end, rest = block.times
        words = [rest] if _SETTING.sub("", rest) else []
        # pysubs2 takes the number below a cue as that of the next cue, so every cue gets one.
        times = [write_stamp(min(t, MAX_TIME_S - 1), ",") for t in (start, end)]
        mended += [" --> ".join(times), *words, *body, "", "0"]
        places.append(f"line {block.row}")
    subs = SSAFile()
    _Subrip.from_file(subs, io.StringIO("\n".join(mended)), "srt", keep_html_tags=True)
    found.cues = _from_events(subs, places)
    return found


def _srt_blocks(lines: list[str], found: Cues) -> list[_Block]:
    all_times = [read_times(line) for line in lines]
    cues = [i for i, times in enumerate(all_times) if times]
    above = [_number_above(lines, i) for i in cues]
    counted = [
        b is not None and b == (a or 0) + 1 for a, b in zip([0, *above], above, strict=False)
    ]
    touching = [i > 0 and lines[i - 1].strip().isdecimal() for i in cues]
    numbered = sum(map(max, counted, touching)) * 2 >= len(cues)
    blocks: list[_Block] = []
    body: list[str] = []
    for i, (line, times) in enumerate(zip(lines, all_times, strict=True)):
        number = _number_above(lines, i) if numbered and (times or "-->" in line) else None
        if times is None and not is_damaged(line, number is not None):
            body.append(line)
            continue
        if number is not None and any(body[-2:]):
            while not body.pop().strip():
                pass
        if not blocks and (words := " ".join(body).strip()):
            found.problems.append(f"line 1: words without times: {words!r:.60}")
        blocks.append(_Block(i + 1, number, times, line, body := []))
    return blocks


def _number_above(lines: list[str], i: int) -> int | None:
    """The number of the cue whose times are on line `i`. A blank line may be in between."""
    above = next((x.strip() for x in reversed(lines[max(i - 2, 0) : i]) if x.strip()), "")
    return int(above) if above.isdecimal() and len(above) < 10 else None


def _without_lost(block: _Block, next_number: int | None, found: Cues) -> list[str]:
    """A cue's words, without words of later cues whose times are missing (a gap in numbers)."""
    body, expected = block.body, (block.number or 0) + 1
    if block.number is None or next_number == expected:
        return body
    kept = len(body)
    for i in range(1, len(body) - 1):
        lost = body[i].strip() == str(expected) and not body[i - 1].strip() and body[i + 1].strip()
        if lost and (next_number is None or next_number > expected):
            kept, expected = min(kept, i), expected + 1
            place, words = block.row + i + 1, body[i + 1].strip()
            found.problems.append(f"line {place}: a cue without times: {words!r:.60}")
    return body[:kept]


def _damaged(row: int, line: str) -> str:
    return f"line {row}: its times cannot be read: {line.strip()!r:.60}"


def read_vtt(text: str) -> Cues:
    """Read WebVTT by its grammar. Names, settings, notes, styles and regions are not words."""
    text = text.lstrip("\n")
    found = Cues(rolling=bool(_KARAOKE.search(text)), known=text.startswith("WEBVTT"))
    lines, places = _mend_vtt(text if found.known else f"WEBVTT\n\n{text}", found)
    captions = webvtt.from_string("\n".join(lines)).captions
    for caption, place in zip(captions, places, strict=True):
        start, end = (t.in_milliseconds() / 1000 for t in (caption.start_time, caption.end_time))
        found.cues.append(Cue(start, end, _VOICE.sub(_speaker, caption.raw_text), place))
    return found


def _speaker(voice: re.Match[str]) -> str:
    """The speaker, put before the words as in TVQA. A dash means nobody."""
    name = voice[1].strip()
    return f"{name} : " if any(c.isalnum() for c in name) else ""


def _mend_vtt(text: str, found: Cues) -> tuple[list[str], list[str]]:
    """Repaired lines for webvtt-py, and the position of each cue in them."""
    mended = ["WEBVTT"]
    places: list[str] = []
    number = 0
    open_cue = lost = False
    for row, block in _blocks(text.split("\n")):
        if row == 1:
            head = next((i for i, line in enumerate(block) if read_times(line)), len(block))
            row, block = row + head, block[head:] or ["NOTE"]
        name = block[0].strip()
        has_number = name.isdecimal() and len(name) < 10
        if any("-->" in line or read_times(line) for line in block):
            lines, kept, lost = _mend_vtt_cue(row, block, found)
            mended += ["", *lines] if lines else []
            places += kept
            open_cue = open_cue or bool(kept)
            number = int(name) if has_number else number
        elif _NOT_CUES.match(name):
            mended += ["", *block]
            open_cue = False
        elif has_number and len(block) > 1 and int(name) == number + 1:
            number, lost = number + 1, True
            found.problems.append(f"line {row}: a cue without times: {block[1]!r:.60}")
        elif open_cue and not lost:
            mended += [" ", *block]  # a line with a space does not end a cue
        elif not places and not lost and not _HEADER.match(name):
            found.problems.append(f"line {row}: words without times: {' '.join(block)!r:.60}")
    return mended, places


def _mend_vtt_cue(row: int, block: list[str], found: Cues) -> tuple[list[str], list[str], bool]:
    """Repair a block with times: lines, positions of cues, and whether the last was not read."""
    lines: list[str] = []
    places: list[str] = []
    lost = False
    for i, line in enumerate(block):
        times = read_times(line)
        if times is not None and times[0] < MAX_TIME_S:
            stamps = [write_stamp(min(t, MAX_TIME_S), ".") for t in times[:2]]
            if not places:
                lines = []  # the line above was the name
            lines += ["", f"{stamps[0]} --> {stamps[1]} {times[2].replace('-->', '')}"]
            places.append(f"line {row + i}")
            lost = False
        elif times is not None or is_damaged(line, i < 2 and not places):
            found.problems.append(_damaged(row + i, line))
            lost = True
        elif not lost:
            lines.append(line.replace("-->", "--&gt;"))
    return lines if places else [], places, lost


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Blocks of lines without an empty line, each with the number of its first line."""
    block: list[str] = []
    for row, line in enumerate([*lines, ""], 1):
        if line:
            block.append(line)
        elif block:
            yield row - len(block), block
            block = []


_ASS_FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect",
               "text")  # fmt: skip


def read_ass(text: str) -> Cues:
    """Read ASS and SSA: each event in the field order that the file declares."""
    found = Cues(known="[Events]" in text or "[Script Info]" in text)
    fields: Sequence[str] = _ASS_FIELDS
    mended, places = ["[Events]"], []
    in_events = "[Events]" not in text
    for row, line in enumerate(text.split("\n"), 1):
        head, _, rest = line.strip().partition(":")
        if line.lstrip().startswith("["):
            in_events = line.strip() == "[Events]"
        elif in_events and head == "Format":
            fields = [name.strip().lower() for name in rest.split(",")]
        elif in_events and head == "Dialogue":
            values = dict(zip(fields, rest.strip().split(",", len(fields) - 1), strict=False))
            times = [read_stamp(values.get(name, "")) for name in ("start", "end")]
            if None in times or "text" not in values:
                found.problems.append(_damaged(row, line))
                continue
            stamps = [write_stamp(t or 0.0, ".") for t in times]
            words = _REMARK.sub("", values["text"])
            mended.append(f"Dialogue: 0,{stamps[0]},{stamps[1]},Default,,0,0,0,,{words}")
            places.append(f"line {row}")
    subs = SSAFile.from_string("\n".join(mended), format_="ass")
    found.cues = _from_events(subs, places)
    return found


def _from_events(subs: SSAFile, places: Sequence[str]) -> list[Cue]:
    cues = []
    for event, place in zip(subs, places, strict=True):
        text = event.text.replace("\\h", " ").replace("\\N", "\n").replace("\\n", "\n")
        cues.append(Cue(event.start / 1000, event.end / 1000, text, place))
    return cues
