"""Subtitles and captions. Read and checked at once, split when a video is built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

from longvideo_env.datasets.jsonfile import is_clean_text, read_object
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.errors import InvalidRowError
from longvideo_env.ids import is_video_id, parse_clip_id
from longvideo_env.schema import TimedText

RawCaptions: TypeAlias = Mapping[str, list[dict[str, Any]]]
"""Clip id -> checked entries with `text` and perhaps `start_s` and `end_s`."""

_UTTERANCE_END = "<eos>"
# A closing label counts only before the next clip or the end, since dialogue may contain one.
_LABELLED = re.compile(
    r"\s*<(seg[0-9]{1,6}_clip_[0-9]{1,6})>(.*?)</\1>\s*(?=<seg[0-9]+_clip_[0-9]+>|\Z)", re.DOTALL
)


def read_clip_subtitles(file: Path, rejects: Rejects) -> dict[str, str]:
    """Read subtitles by clip: clip id -> text with `<eos>` after each utterance."""
    texts: dict[str, str] = {}
    for clip_id, value in read_object(file).items():
        problem = _text_problem(value)
        if parse_clip_id(clip_id) is None:
            problem = "expected a clip id such as s05e02_seg02_clip_00 as the key"
        if problem is None:
            texts[clip_id] = cast("str | None", value) or ""
        else:
            rejects.add(InvalidRowError(f"{problem}.", file, clip_id, MEND_ROW))
    return texts


def read_episode_subtitles(file: Path, rejects: Rejects) -> dict[str, str]:
    """Read subtitles by video: video id -> `<seg02_clip_00>...</seg02_clip_00>...`.

    Returns:
        The same as `read_clip_subtitles`.
    """
    texts: dict[str, str] = {}
    for video_id, value in read_object(file).items():
        problem = _text_problem(value)
        if not is_video_id(video_id):
            problem = "expected a video id such as s05e02 as the key"
        clips = {} if problem else split_labels(cast("str | None", value) or "")
        if clips is None:
            problem = "expected clips as <seg02_clip_00>...</seg02_clip_00>, each of them once"
        if clips is None or problem is not None:
            rejects.add(InvalidRowError(f"{problem}.", file, video_id, MEND_ROW))
        else:
            texts.update({f"{video_id}_{label}": text for label, text in clips.items()})
    return texts


def split_labels(text: str) -> dict[str, str] | None:
    """Split a video's subtitles into label -> text. None if there is text outside the labels."""
    clips: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _LABELLED.match(text, at)
        if match is None or match[1] in clips:
            return clips if not text[at:].strip() else None
        clips[match[1]] = match[2]
        at = match.end()
    return clips


def split_utterances(text: str) -> tuple[TimedText, ...]:
    """Split a clip's subtitles at `<eos>`. Empty utterances are dropped."""
    parts = (part.strip() for part in text.split(_UTTERANCE_END))
    return tuple(TimedText(part) for part in parts if part)


def read_captions(file: Path, rejects: Rejects) -> RawCaptions:
    """Read and check captions: clip id -> `[{start_s, end_s, text}]`. Times may be null."""
    return check_captions(read_object(file), file, rejects)


def check_captions(entries: Mapping[str, Any], file: Path, rejects: Rejects) -> RawCaptions:
    """Check captions that were read from a file."""
    captions: dict[str, list[dict[str, Any]]] = {}
    for clip_id, value in entries.items():
        problem = _captions_problem(value)
        if parse_clip_id(clip_id) is None:
            problem = "expected a clip id such as s05e02_seg02_clip_00 as the key"
        if problem is None:
            captions[clip_id] = cast("list[dict[str, Any]]", value)
        else:
            rejects.add(InvalidRowError(f"{problem}.", file, clip_id, MEND_ROW))
    return captions


def build_captions(entries: list[dict[str, Any]]) -> tuple[TimedText, ...]:
    """Turn checked entries into records. Empty ones are dropped."""
    return tuple(
        TimedText(text, _as_float(entry.get("start_s")), _as_float(entry.get("end_s")))
        for entry in entries
        if (text := entry["text"].strip())
    )


def _text_problem(value: object) -> str | None:
    if value is None or is_clean_text(value):
        return None
    return f"expected a text, got {value!r:.60}"


def _captions_problem(value: object) -> str | None:
    if not isinstance(value, list):
        return f"expected an array of captions, got {value!r:.60}"
    for entry in value:
        if not isinstance(entry, dict) or not is_clean_text(entry.get("text")):
            return f"expected a caption as {{start_s, end_s, text}}, got {entry!r:.60}"
        if not (is_time(entry.get("start_s")) and is_time(entry.get("end_s"))):
            return f"expected start_s and end_s in seconds or null, got {entry!r:.90}"
    return None


def is_time(value: object) -> bool:
    """Whether a value is null or a time in seconds."""
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Compared, not converted: a huge integer does not fit into a float.
    return 0 <= value < 1e9


def _as_float(value: float | None) -> float | None:
    return None if value is None else float(value)
