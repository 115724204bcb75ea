"""Finds the line of a film that matches a question: by shared rare words, and by meaning.

    film = FilmLines(video)
    film.best("What did he find?")    # Cited(clip_id, line, score) of "He found the old key!"

Words are compared by stems, so "find" matches "found" and "leaves" matches "leave". A word that
occurs in few lines has more weight. A line's score is the share of the question's weight that its
words have, from 0 to 1. A word that no line contains counts fully and lowers all scores. With an
embedding model, the score is a weighted mean of the cosine and this share; the share has weight one
fifth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

import numpy as np

from agents.perception.embeddings import Embedder, embed_cached
from agents.ranking import content_words
from longvideo_env.schema import TimedText, Video

SPEAKS = 0.25
"""Minimum score of a matching line, without an embedding model."""

SPEAKS_BY_MEANING = 0.25
"""Minimum score of a matching line, with an embedding model."""

WORDS = 0.2
"""Weight of shared words beside meaning."""

# Past forms of irregular verbs. A question with "did" has the base form.
_PAST = """
be was were been; bear bore born borne; become became; begin began begun; bite bit bitten; blow blew
blown; break broke broken; bring brought; build built; burn burnt; buy bought; catch caught; choose
chose chosen; come came; deal dealt; dig dug; do did done; draw drew drawn; drink drank drunk; drive
drove driven; eat ate eaten; fall fell fallen; feed fed; feel felt; fight fought; find found; fly
flew flown; forget forgot forgotten; freeze froze frozen; get got gotten; give gave given; go went
gone; grow grew grown; hang hung; have had; hear heard; hide hid hidden; hold held; keep kept; know
knew known; lead led; leave left; lend lent; lie lay lain; lose lost; make made; mean meant; meet
met; pay paid; ride rode ridden; ring rang rung; rise rose risen; run ran; say said; see saw seen;
sell sold; send sent; shake shook shaken; shine shone; shoot shot; sing sang sung; sink sank sunk;
sit sat; sleep slept; speak spoke spoken; spend spent; stand stood; steal stole stolen; stick stuck;
strike struck; swear swore sworn; swim swam swum; take took taken; teach taught; tear tore torn;
tell told; think thought; throw threw thrown; understand understood; wake woke woken; wear wore
worn; win won; write wrote written
"""
_STEMS = {
    form: verb.split()[0] for verb in _PAST.split(";") for form in verb.split()
}  # fmt: skip
_VOWEL = re.compile(r"[aeiouy]")


@dataclass(frozen=True, slots=True)
class Cited:
    """A line with its clip.

    Attributes:
        clip_id: Its clip.
        line: The line, in seconds of the clip.
        score: How well it matches the question, 0 to 1.
    """

    clip_id: str
    line: TimedText
    score: float


class FilmLines:
    """Lines to search.

    Args:
        placed: Each line with its clip.
        embedder: An embedding model, or None to use words only.
    """

    def __init__(
        self, placed: Sequence[tuple[str, TimedText]], embedder: Embedder | None = None
    ) -> None:
        self.placed = placed
        self.stems = [stems(line.text) for _, line in placed]
        self._counts = Counter(stem for found in self.stems for stem in found)
        self._embedder = embedder
        self._vectors: np.ndarray | None = None
        if embedder is not None and placed:
            self._vectors = embed_cached(embedder, [line.text for _, line in placed])

    @property
    def threshold(self) -> float:
        """Minimum score of a matching line."""
        return SPEAKS if self._vectors is None else SPEAKS_BY_MEANING

    def scores(self, query: str) -> np.ndarray:
        """Score of each line for a query. Shape: (lines,)."""
        wanted = stems(query)
        shares = self.shares(wanted)
        if self._vectors is None or self._embedder is None:
            return shares
        near = self._vectors @ _query_vector(query, self._embedder)
        return np.asarray(WORDS * shares + (1 - WORDS) * np.maximum(near, 0.0))

    def shares(self, wanted: Iterable[str]) -> np.ndarray:
        """Share of the stems' weight in each line. Shape: (lines,)."""
        # In the order of the stems, because sums of floats depend on it.
        weights = {stem: log(1 + len(self.placed) / (1 + self._counts[stem])) for stem in wanted}
        total = sum(weights.values()) or 1.0
        return np.asarray(
            [sum(w for stem, w in weights.items() if stem in found) / total for found in self.stems]
        )

    def best(
        self, query: str, clip_ids: Iterable[str] | None = None, n: int = 1
    ) -> tuple[Cited, ...]:
        """The lines that match a query best, best first. Ties go to the earlier line.

        Args:
            query: The question.
            clip_ids: Restrict to lines of these clips; by default all.
            n: Maximum number of lines. Lines with score 0 are left out.
        """
        known = None if clip_ids is None else set(clip_ids)
        scores = self.scores(query)
        order = sorted(
            (i for i, (clip_id, _) in enumerate(self.placed) if known is None or clip_id in known),
            key=lambda i: (-round(float(scores[i]), 6), i),
        )
        return tuple(Cited(*self.placed[i], float(scores[i])) for i in order[:n] if scores[i] > 0)


def stems(text: str) -> dict[str, None]:
    """The stems of a text's content words, in order, each once."""
    return dict.fromkeys(_stem(word) for word in sorted(content_words(text), key=text.lower().find))


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    """The stem of a word: without plural, -ed and -ing; irregular past forms as the base form."""
    word = word.removesuffix("'s")
    if word in _STEMS:
        return _STEMS[word].removesuffix("e")
    for ending, least in (("ies", 4), ("ing", 5), ("ed", 4), ("es", 4), ("s", 4)):
        stem = word.removesuffix(ending)
        if stem != word and len(word) >= least and _VOWEL.search(stem) and not stem.endswith("s"):
            word = stem + "y" if ending == "ies" else stem
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]  # stopped -> stop
    return word.removesuffix("e") if len(word) > 3 else word


@lru_cache(maxsize=4096)
def _query_vector(query: str, embedder: Embedder) -> np.ndarray:
    return np.asarray(embedder.embed([query])[0])


@lru_cache(maxsize=256)
def film_lines(video: Video, embedder: Embedder | None = None) -> FilmLines:
    """All lines of a video, indexed once: dialogue, captions and layers."""
    placed = [
        (clip.clip_id, line)
        for clip in video.clips
        for line in dict.fromkeys((*clip.searched, *clip.captions))
    ]
    return FilmLines(placed, embedder)
