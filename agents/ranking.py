"""Ranks short texts for a query with BM25 (library bm25s)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN_PLUS

_STOPWORDS = frozenset(STOPWORDS_EN_PLUS)
_WORD = re.compile(r"\w+(?:'\w+)?")


def tokenize(text: str) -> list[str]:
    """Lower-case words, in order. Frequent words are kept, since BM25 gives them low weight."""
    return _WORD.findall(text.lower())


def content_words(text: str) -> set[str]:
    """The distinct words of a text, without English stopwords."""
    return set(tokenize(text)) - _STOPWORDS


class Ranking:
    """A BM25 index over a few texts.

    Args:
        texts: The texts, which may be empty.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        corpus = [tokenize(text) for text in texts]
        self._n = len(corpus)
        self._index: bm25s.BM25 | None = None
        if any(corpus):
            self._index = bm25s.BM25()
            self._index.index(corpus, show_progress=False)

    def order(self, query: str) -> tuple[int, ...]:
        """Indices of the texts, best first. Ties keep their order."""
        return tuple(np.argsort(-self.scores(query), kind="stable").tolist())

    def scores(self, query: str) -> np.ndarray:
        """Score of each text. 0 if no word is shared. Shape: (texts,)."""
        if self._index is None:
            return np.zeros(self._n, dtype=np.float32)
        known = [word for word in sorted(set(tokenize(query))) if word in self._index.vocab_dict]
        if not known:
            return np.zeros(self._n, dtype=np.float32)
        return np.asarray(self._index.get_scores(known), dtype=np.float32)
