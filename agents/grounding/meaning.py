"""Grounding by meaning: `embed:MODEL`, and combined with BM25: `fused:bm25+embed:MODEL`.

    --grounding embed:models/minilm
    --grounding fused:bm25+embed:models/minilm,weight=0.5

A clip is split into passages of a few lines. Its score is the similarity of its best passage.
`fused` adds the scores of both, each standardised to mean 0 and deviation 1 over the clips of the
video. `weight` is the weight of meaning, from 0 (only BM25) to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from agents.grounding.offline import clip_index
from agents.perception.embeddings import Embedder, embed_cached, open_embedder
from longvideo_env.errors import SpecError
from longvideo_env.records.identity import short_hash, video_digest
from longvideo_env.schema import Clip, Video
from longvideo_env.specs import parse_spec
from longvideo_env.tools.tool import ToolCall, ToolReply

PASSAGE_WORDS = 60
WEIGHT = 0.5
"""Default weight of meaning in `fused`: the best of 0.1, 0.2, ... on a train split."""


@dataclass(frozen=True)
class FusedOptions:
    """Options of a spec.

    Attributes:
        weight: Weight of meaning, 0 to 1.
    """

    weight: float = WEIGHT

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise SpecError(f"fused: expected weight of 0 to 1, got {self.weight}.")


class EmbedGrounding:
    """Ranks clips by the similarity of their lines to the query. Spec: `embed:MODEL`."""

    immediate = True

    def __init__(self, argument: str) -> None:
        self._embedder = open_embedder(argument)

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Return the most similar clip that was not visited."""
        return _best(request, self._scores(request.video, query_of(request)))

    def record_key(self, request: ToolCall, /) -> Mapping[str, Any]:
        """The key of the reply."""
        return {
            "agent": "embed",
            "model": self._embedder.digest,
            "passage_words": PASSAGE_WORDS,
            "query": short_hash(query_of(request)),
            "visited": sorted(request.visited),
            "video": video_digest(request.video),
        }

    def _scores(self, video: Video, query: str) -> np.ndarray:
        return nearness(video, query, self._embedder)


class FusedGrounding(EmbedGrounding):
    """Ranks clips by words and by meaning. Spec: `fused:bm25+embed:MODEL[,weight=W]`."""

    def __init__(self, argument: str) -> None:
        spec = parse_spec(f"fused:{argument}")
        words, plus, meaning = spec.argument.partition("+")
        name, _, model = meaning.partition(":")
        if (words, plus, name) != ("bm25", "+", "embed"):
            raise SpecError(f"expected fused:bm25+embed:MODEL[,weight=W], got fused:{argument}.")
        super().__init__(model)
        self._weight = spec.read(FusedOptions).weight

    def record_key(self, request: ToolCall, /) -> Mapping[str, Any]:
        """The key of the reply."""
        return {**super().record_key(request), "agent": "fused", "weight": self._weight}

    def _scores(self, video: Video, query: str) -> np.ndarray:
        words = clip_index(video).scores(query)
        meaning = nearness(video, query, self._embedder)
        return (1 - self._weight) * _standard(words) + self._weight * _standard(meaning)


def query_of(request: ToolCall) -> str:
    """The master's request, or else the question and its options."""
    question = request.question
    return request.query or " ".join([question.text, *question.options])


def nearness(video: Video, query: str, embedder: Embedder) -> np.ndarray:
    """Similarity of each clip to a query: cosine of its best passage. Shape: (clips,).

    A clip without lines has the lowest similarity.
    """
    owners, vectors = _passages_of(video, embedder)
    scores = np.full(len(video.clips), -1.0, dtype=np.float32)
    if len(owners):
        near = vectors @ _query_vector(query, embedder)
        np.maximum.at(scores, owners, near.astype(np.float32))
    return scores


def passages(clip: Clip) -> Iterator[str]:
    """A clip's lines, including layers, as texts of about sixty words."""
    words: list[str] = []
    for line in clip.searched:
        words += line.text.split()
        if len(words) >= PASSAGE_WORDS:
            yield " ".join(words)
            words = []
    if words:
        yield " ".join(words)


def embed_passages(video: Video, embedder: Embedder) -> int:
    """Embed a video's passages into the cache. Returns their number."""
    return len(_passages_of(video, embedder)[0])


@lru_cache(maxsize=1024)
def _passages_of(video: Video, embedder: Embedder) -> tuple[np.ndarray, np.ndarray]:
    """Clip and vector of each passage. Shapes: (passages,), (passages, width)."""
    placed = [(i, text) for i, clip in enumerate(video.clips) for text in passages(clip)]
    owners = np.asarray([i for i, _ in placed], dtype=np.int64)
    texts = [text for _, text in placed]
    return owners, embed_cached(embedder, texts) if texts else np.zeros((0, 0))


@lru_cache(maxsize=16384)
def _query_vector(query: str, embedder: Embedder) -> np.ndarray:
    return np.asarray(embedder.embed([query])[0])


def _standard(scores: np.ndarray) -> np.ndarray:
    deviation = float(scores.std())
    return (scores - scores.mean()) / deviation if deviation > 0 else np.zeros_like(scores)


def _best(request: ToolCall, scores: np.ndarray) -> ToolReply:
    clip_ids = request.video.clip_ids
    ranked = [clip_ids[i] for i in np.argsort(-scores, kind="stable")]
    return ToolReply(next((c for c in ranked if c not in request.visited), ranked[0]))
