"""Checks that a question's gold clip is in the folder, and that its span is inside the clip."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property

from longvideo_env.datasets.tvqa.material import Texts
from longvideo_env.datasets.tvqa.rows import RowPlace
from longvideo_env.errors import ForeignClipError, InvalidRowError
from longvideo_env.ids import parse_clip_id
from longvideo_env.schema import Task

SLACK_S = 1.0
"""Seconds by which a span may exceed its clip, since lengths are rounded."""


class GoldCheck:
    """Checks clips and spans against the folder's contents.

    Args:
        texts: The folder's clips. Dialogue and `clips.json` list all clips except silent ones
            between others. Captions alone may list only a few.

    Attributes:
        fine: Clips of the folder whose length is unknown, so that every span fits.
    """

    def __init__(self, texts: Texts) -> None:
        listed = {*texts.subtitles, *texts.timed, *texts.times.spans}
        self._clips = frozenset({*listed, *texts.captions} if listed else ())
        self._times: Mapping[str, tuple[float, float]] = texts.times.spans
        self.fine = frozenset() if self._times else self._clips

    def error(self, task: Task, place: RowPlace) -> InvalidRowError | None:
        """What is wrong with a task's gold, or None."""
        clip_id, span = task.gold.clip_id, task.gold.span
        if clip_id is None or self.is_fine(clip_id, span and span[1]):
            return None
        place = RowPlace(place.file, place.row, task.qid)
        if clip_id not in self._times:
            close = get_close_matches(clip_id, self._clips, n=1)
            hint = f" Close to it: {close[0]}." if close else ""
            return place.error(
                ForeignClipError, f"expected a clip of the folder, got {clip_id!r}.{hint}"
            )
        start_s, end_s = self._times[clip_id]
        return place.error(
            InvalidRowError,
            f"expected 'ts' in seconds of its clip, which is {end_s - start_s:g} s long, got "
            f"{list(span or ())}. Times of the whole video start at the clip's {start_s:g} s.",
        )

    def is_fine(self, clip_id: str, end_s: float | None) -> bool:
        """Whether the folder has the clip, and a span ending at `end_s` fits in it."""
        if self._clips and clip_id not in self._clips and not self._is_between(clip_id):
            return False
        times = self._times.get(clip_id) if self._times else None
        return end_s is None or times is None or end_s <= times[1] - times[0] + SLACK_S

    def _is_between(self, clip_id: str) -> bool:
        """Whether an unlisted clip comes before a listed clip of the same segment."""
        name = parse_clip_id(clip_id)
        return name is not None and name.number < self._last.get(name[:2], -1)

    @cached_property
    def _last(self) -> Mapping[tuple[str, int], int]:
        last: dict[tuple[str, int], int] = {}
        for video_id, segment, number in filter(None, map(parse_clip_id, self._clips)):
            last[video_id, segment] = max(number, last.get((video_id, segment), -1))
        return last
