"""Structured formats: JSON of YouTube, Whisper and pysubs2; TTML and YouTube's XML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from longvideo_env.media.captions.plain import Cue, Cues
from longvideo_env.media.captions.stamps import read_stamp

_LINED = {"segments", "chunks", "transcription", "events"}
"""Keys whose entries are lines. Other files have only words."""

_GAP_S = 1.0
_LONGEST_S = 6.0
_OFFSET = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(h|ms|m|s|f|t)?")
_FRAMES = re.compile(r"(\d{1,4}:\d{1,2}:\d{1,2}):(\d{1,3})(?:\.\d+)?")


def read_json(text: str) -> Cues:
    """Read JSON of any known kind.

    Raises:
        ValueError: The text is not JSON, or of an unknown kind.
    """
    try:
        data = json.loads(text, strict=False)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    rows, read = _kind_of(data)
    found = Cues()
    for number, row in enumerate(rows, 1):
        place = f"entry {number}"
        try:
            cue = read(row)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
            found.problems.append(f"{place}: its times or words cannot be read: {row!r:.60}")
            continue
        if cue is not None:
            cue.place = place
            found.cues.append(cue)
    if isinstance(data, dict) and not _LINED & data.keys():
        found.cues = _joined(found.cues)
    return found


def _kind_of(data: Any) -> tuple[list[Any], Callable[[Any], Cue | None]]:
    """The entries of a file, and the function that reads one."""
    if isinstance(data, dict):
        kinds: tuple[tuple[str, Callable[[Any], Cue | None]], ...] = (
            ("segments", _segment),
            ("chunks", _segment),
            ("transcription", _segment),
            ("events", _pysubs2 if "styles" in data else _json3),
        )
        for key, read in kinds:
            if isinstance(rows := data.get(key), list):
                return rows, read
        for key in ("words", "word_segments"):
            if isinstance(rows := data.get(key), list):
                return rows, _segment
    if isinstance(data, list) and (not data or isinstance(data[0], dict)):
        return data, _segment
    raise ValueError("it is neither YouTube's json3 nor Whisper's JSON")


def _number(value: Any) -> float:
    if isinstance(value, str):
        stamp = read_stamp(value)
        return float(value) if stamp is None else stamp
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no number")
    return float(value)


def _json3(row: Any) -> Cue | None:
    if "segs" not in row:
        return None  # a window, not words
    start = _number(row["tStartMs"]) / 1000
    text = "".join(str(seg.get("utf8", "")) for seg in row["segs"])
    return Cue(start, start + _number(row.get("dDurationMs", 0)) / 1000, text)


def _pysubs2(row: Any) -> Cue | None:
    if row.get("type") == "Comment":
        return None
    text = _words(row).replace("\\h", " ").replace("\\N", "\n").replace("\\n", "\n")
    return Cue(_number(row["start"]) / 1000, _number(row["end"]) / 1000, text)


def _segment(row: Any) -> Cue:
    """A line of Whisper (segment), its pipelines (chunk), whisper.cpp, or a plain row."""
    if "timestamp" in row:
        start, end = row["timestamp"]
        return Cue(_number(start), _number(start if end is None else end), _words(row))
    if "offsets" in row:
        span = row["offsets"]
        return Cue(_number(span["from"]) / 1000, _number(span["to"]) / 1000, _words(row))
    start = _number(row["start"])
    end = _number(row["end"]) if "end" in row else start + _number(row["duration"])
    return Cue(start, end, _words(row))


def _words(row: Any) -> str:
    for key in ("text", "word", "line"):
        if isinstance(words := row.get(key), str):
            return words
    raise ValueError("no words")


def _joined(words: list[Cue]) -> list[Cue]:
    """Join words into lines. A pause, the end of a sentence or six seconds end a line."""
    lines: list[Cue] = []
    parts: list[list[str]] = []
    for word in words:
        last = lines[-1] if lines else None
        ended = last is None or parts[-1][-1].endswith((".", "?", "!"))
        if (
            ended
            or word.start_s - lines[-1].end_s > _GAP_S
            or (word.end_s - lines[-1].start_s > _LONGEST_S)
        ):
            lines.append(Cue(word.start_s, word.end_s, "", word.place))
            parts.append([])
        parts[-1].append(word.text.strip())
        lines[-1].end_s = word.end_s
    for line, said in zip(lines, parts, strict=True):
        line.text = " ".join(said)
    return lines


def read_xml(text: str) -> Cues:
    """Read TTML of any version and profile, and YouTube's two XML formats.

    Raises:
        ValueError: The text is not XML, or it declares entities.
    """
    try:
        root = fromstring(text, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    except (ParseError, DefusedXmlException, RecursionError) as error:
        raise ValueError(f"it is not plain XML ({error!s:.60})") from error
    found = Cues()
    rates = _rates(root)
    stack: list[tuple[Element, float]] = [(root, 0.0)]
    number = 0
    while stack:
        element, offset = stack.pop()
        name, times = _local(element.tag), _attributes(element)
        inside = [_attributes(child) for child in element] if name == "p" else []
        timed = name == "p" and ("begin" in times or not any("begin" in x for x in inside))
        if timed or name == "text" or (name == "span" and "begin" in times):
            number += 1
            _add(element, name, times, offset, rates, found, f"<{name}> {number}")
            continue
        begin = _time(times["begin"], rates) if "begin" in times else 0.0
        stack += [(child, offset + (begin or 0.0)) for child in reversed(element)]
    return found


def _add(
    element: Element,
    name: str,
    times: dict[str, str],
    offset: float,
    rates: tuple[float, float],
    found: Cues,
    place: str,
) -> None:
    words = "".join(_text(element))
    unit = 1000.0 if "t" in times else 1.0  # YouTube: srv3 counts milliseconds, srv1 seconds
    start_at, length = times.get("t", times.get("start")), times.get("d", times.get("dur"))
    if "begin" not in times and start_at is not None:
        start, span = _plain(start_at, unit), _plain(length or "0", unit)
        end = None if start is None or span is None else start + span
    else:
        start = _time(times.get("begin", ""), rates)
        end = _time(times.get("end", ""), rates)
        if end is None and start is not None and length:
            span = _time(length, rates)
            end = None if span is None else start + span
    if start is None or end is None:
        if words.strip():
            found.problems.append(f"{place}: its times cannot be read: {words.strip()!r:.60}")
        return
    found.cues.append(Cue(start + offset, end + offset, words, place))


def _text(element: Element) -> Iterator[str]:
    """The words, with line ends for `<br/>` and without metadata."""
    stack: list[Element | str] = [element]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
            continue
        name = _local(node.tag)
        inner: list[Element | str] = ["\n"] if name == "br" else [_one_line(node.text)]
        for child in node:
            inner += [child, _one_line(child.tail)]
        stack += [] if name in ("metadata", "desc", "") else reversed(inner)


def _one_line(text: str | None) -> str:
    # Markup in the words was written as entities. `plain_text` removes it, as for other formats.
    return re.sub(r"\s+", " ", text or "")


def _local(tag: Any) -> str:
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _attributes(element: Element) -> dict[str, str]:
    return {_local(key): value.strip()[:40] for key, value in element.attrib.items()}


def _rates(root: Element) -> tuple[float, float]:
    """Frames and ticks per second."""
    values = _attributes(root)
    frames = _plain(values.get("framerate", ""), 1.0) or 30.0
    top, _, low = values.get("frameratemultiplier", "").partition(" ")
    frames *= (_plain(top, 1.0) or 1.0) / (_plain(low, 1.0) or 1.0)
    return frames, _plain(values.get("tickrate", ""), 1.0) or frames


def _plain(value: str, unit: float) -> float | None:
    match = re.fullmatch(r"\d{1,12}(?:\.\d{1,9})?", value)
    return float(value) / unit if match else None


def _time(value: str, rates: tuple[float, float]) -> float | None:
    """Parse a TTML time: clock, clock with frames, or a number with a unit."""
    if match := _OFFSET.fullmatch(value):
        units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, None: 1.0}
        units |= {"f": 1 / rates[0], "t": 1 / rates[1]}
        return round(float(match[1]) * units[match[2]], 3)
    if match := _FRAMES.fullmatch(value):
        clock = read_stamp(match[1])
        return None if clock is None else round(clock + int(match[2]) / rates[0], 3)
    return read_stamp(value)
