"""Reads and writes times such as `00:01:02,500`, `1:02.5` and `00:00:06,250000`."""

from __future__ import annotations

import re

STAMP = (
    r"(?:(\d{1,4})[ ]?:[ ]?)?(\d{1,3})[ ]?:[ ]?(\d{1,2})"
    r"(?:[ ]?[.,][ ]?(\d{1,12}(?:\.\d{1,20})?)|:(\d{3}))?(?!\d|:\d)"
)
"""Five groups: hours, minutes, seconds, and the fraction after a point or a colon.

A fraction that contains a point, as in `04,560.25`, is in milliseconds.
"""

ARROW = r"[ \t]*(?:-{1,3}[ ]?>|[\u2013\u2014]>|\u2192|=>)[ \t]*"

_STAMP = re.compile(STAMP)
_TIMES = re.compile(rf"\s*{STAMP}{ARROW}{STAMP}(.*)", re.DOTALL)


def to_seconds(hours: str | None, minutes: str, seconds: str, *fraction: str | None) -> float:
    """Seconds from the groups of `STAMP`, to the millisecond."""
    part = next((f for f in fraction if f), "0")
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return round(whole + (float(part) / 1000 if "." in part else float(f"0.{part}")), 3)


def read_stamp(text: str) -> float | None:
    """Parse one time. None if the text is not a time."""
    match = _STAMP.fullmatch(text.strip()[:40])
    return to_seconds(*match.groups()) if match else None


def read_times(line: str) -> tuple[float, float, str] | None:
    """Start, end and the rest of a line `start --> end ...`. None for other lines."""
    match = _TIMES.match(line) if ">" in line or "\u2192" in line else None
    if match is None:
        return None
    groups = match.groups()
    return to_seconds(*groups[:5]), to_seconds(*groups[5:10]), groups[10].strip()


def is_damaged(line: str, after_number: bool) -> bool:
    """Whether a line should have two times, but they cannot be read."""
    if "-->" not in line:
        return False
    return after_number or bool(re.search(r"\d ?[:.,] ?\w|\w ?[:.,] ?\d", line[:200]))


def write_stamp(seconds: float, point: str) -> str:
    """Write `HH:MM:SS,mmm` for the libraries."""
    whole, ms = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{ms:03d}"
