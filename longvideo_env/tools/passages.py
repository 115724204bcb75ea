"""Splits a video into passages of a few seconds and searches what is said and seen in them.

    database = passages(video, every_s=10.0)
    database.best("the wedding is on", 16)      # the best passages, best first

Texts are ranked by BM25 (library bm25s). A search needs no network and is deterministic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import bm25s
import numpy as np

from longvideo_env.schema import TimedText, Video
from longvideo_env.spans import Span
from longvideo_env.timeline import descriptions, dialogue, length_s

_WORD = re.compile(r"\w+(?:'\w+)?")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a video as text.

    Attributes:
        span: Start and end, in seconds of the video.
        text: What is said and seen, one line each.
    """

    span: Span
    text: str

    @property
    def line(self) -> TimedText:
        """The passage as a timed line."""
        return TimedText(self.text, *self.span)


class Passages:
    """The passages of a video, in order of time.

    Args:
        found: The passages.
    """

    def __init__(self, found: Sequence[Passage]) -> None:
        self.all = tuple(found)
        words = [_WORD.findall(passage.text.lower()) for passage in self.all]
        self._index: bm25s.BM25 | None = None
        if any(words):
            self._index = bm25s.BM25()
            self._index.index(words, show_progress=False)

    def best(
        self, query: str, n: int, keep: Callable[[Passage], bool] | None = None
    ) -> tuple[Passage, ...]:
        """The `n` passages that match a query best, best first. Ties go to the earlier passage.

        Args:
            query: The search text.
            n: Maximum number of passages.
            keep: Filter for passages; by default all.
        """
        order = np.argsort(-self._scores(query), kind="stable")
        found = (self.all[int(i)] for i in order)
        return tuple([p for p in found if keep is None or keep(p)][:n])

    def _scores(self, query: str) -> np.ndarray:
        wanted = sorted(set(_WORD.findall(query.lower())))
        known = [w for w in wanted if self._index is not None and w in self._index.vocab_dict]
        if self._index is None or not known:
            return np.zeros(len(self.all), dtype=np.float32)
        return np.asarray(self._index.get_scores(known), dtype=np.float32)


@lru_cache(maxsize=512)
def passages(video: Video, every_s: float, *, seen: bool = True) -> Passages:
    """Split a video into passages. Passages without text are left out.

    Args:
        video: The video.
        every_s: Length of a passage in seconds. The last may be shorter.
        seen: Whether to search descriptions of what is seen besides the dialogue.
    """
    lines = (*dialogue(video), *(descriptions(video) if seen else ()))
    end = length_s(video)
    texts: dict[int, list[str]] = {}
    for line in lines:
        start, last = line.start_s or 0.0, line.end_s or 0.0
        first = int(start // every_s)
        # A line that ends where a passage begins does not belong to it.
        beyond = max(first + 1, -int(-last // every_s))
        for number in range(first, beyond):
            texts.setdefault(number, []).append(line.text)
    return Passages(
        [
            Passage(
                (number * every_s, min((number + 1) * every_s, end)),
                "\n".join(dict.fromkeys(texts[number])),
            )
            for number in sorted(texts)
            if number * every_s < end
        ]
    )
