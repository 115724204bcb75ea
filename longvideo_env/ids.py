"""Ids of videos and clips, parsed by two anchored patterns.

A clip is `VIDEO_seg02_clip_00`, as in TVQA, or `VIDEO@01:20` with its start time. An id has only
letters, digits, `_` and `-` (and that time), and its length is limited. So a valid id is safe as
the name of a folder.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

_SAFE_LENGTH = r"(?=.{1,150}\Z)"
_VIDEO = r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*"
_LABEL = r"seg(?P<segment>[0-9]{1,6})_clip_(?P<number>[0-9]{1,6})"
_CLIP_ID = re.compile(rf"{_SAFE_LENGTH}(?P<video>{_VIDEO})_{_LABEL}\Z")
_STARTS_AT = re.compile(
    rf"{_SAFE_LENGTH}(?P<video>{_VIDEO})@(?:(?P<h>[0-9]{{1,3}}):)?(?P<m>[0-9]{{2}}):(?P<s>[0-9]{{2}})\Z"
)
_VIDEO_ID = re.compile(rf"{_SAFE_LENGTH}{_VIDEO}\Z")
_TV_EPISODE = re.compile(r"(?:(?P<show>.+)_)?s[0-9]+e[0-9]+(?:-[0-9]+)?\Z")

# The Big Bang Theory is the only show whose ids have no prefix.
_SHOW_WITHOUT_PREFIX = "bbt"
_LONGEST_NAME = 80


class ClipName(NamedTuple):
    """The parts of a clip's id.

    Attributes:
        video_id: Such as `friends_s09e23-24`.
        segment: Number of the segment. TVQA splits an episode in two at its opening song.
        number: Number of the clip in its segment. For `VIDEO@01:20` it is the start in seconds.
    """

    video_id: str
    segment: int
    number: int


@lru_cache(maxsize=32_768)  # holds all clips of LongTVQA
def parse_clip_id(clip_id: str) -> ClipName | None:
    """The parts of a clip's id, or None if it is not a clip id."""
    match = _CLIP_ID.match(clip_id)
    if match is None:
        match = _STARTS_AT.match(clip_id)
        if match is None:
            return None
        start_s = int(match["h"] or 0) * 3600 + int(match["m"]) * 60 + int(match["s"])
        return ClipName(match["video"], 0, start_s)
    return ClipName(match["video"], int(match["segment"]), int(match["number"]))


def clip_id_at(video_id: str, start_s: float) -> str:
    """The id of the clip of a video that starts at a whole second: `film@01:20`."""
    minutes, seconds = divmod(int(start_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{video_id}@{f'{hours}:' if hours else ''}{minutes:02d}:{seconds:02d}"


def is_video_id(text: str) -> bool:
    """Whether a text is a valid video id."""
    return _VIDEO_ID.match(text) is not None


def show_of(video_id: str) -> str | None:
    """The short name of the show in a TVQA id, such as `castle`. None for other videos."""
    match = _TV_EPISODE.match(video_id)
    return (match["show"] or _SHOW_WITHOUT_PREFIX) if match else None


def group_by_video(clip_ids: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Group valid clip ids by video, each group in order of segment and clip number."""
    groups: dict[str, list[tuple[int, int, str]]] = {}
    for clip_id in clip_ids:
        name = parse_clip_id(clip_id)
        if name is None:
            raise ValueError(f"expected an id such as s05e02_seg02_clip_00, got {clip_id!r}")
        groups.setdefault(name.video_id, []).append((name.segment, name.number, clip_id))
    return {
        video_id: tuple(clip_id for _, _, clip_id in sorted(groups[video_id]))
        for video_id in sorted(groups)
    }


def safe_video_id(name: str) -> str:
    """A valid video id for any name, such as a file name. Different names give different ids.

    A name that is already a valid id is returned unchanged. Other names keep their letters and
    digits and get a short hash of the whole name.
    """
    if is_video_id(name) and len(name) <= _LONGEST_NAME:
        return name
    words = re.findall(r"[A-Za-z0-9]+", unicodedata.normalize("NFKD", name))
    short = "-".join(words)[:_LONGEST_NAME].strip("-")
    mark = sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{short}-{mark}" if short else f"video-{mark}"
