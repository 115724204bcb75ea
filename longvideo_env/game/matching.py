"""Scores for answers without options: word overlap for text, temporal overlap for stretches.

answer_scores("The red mug.", Gold(text="a red mug"))     # exact_match 1.0, token_f1 1.0
answer_scores("10-20", Gold(when=((15.0, 30.0),)))        # iou 0.25, recall 0.333...

Words are compared as in SQuAD (Rajpurkar et al., arXiv 1606.05250): case, punctuation and the
articles a, an, the are ignored. Token F1 is the harmonic mean of precision and recall over words,
counted with repetitions. A stretch counts as right from a temporal IoU of `RIGHT_FROM_IOU`.
"""

from __future__ import annotations

import re
from collections import Counter

from longvideo_env.schema import Gold
from longvideo_env.spans import read_spans, temporal_iou, temporal_recall

RIGHT_FROM_IOU = 0.5

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WORDS = re.compile(r"\w+")


def answer_scores(said: str | None, gold: Gold) -> dict[str, float]:
    """The scores of an answer, each from 0 to 1. Without an answer they are 0.

    Args:
        said: The answer as the protocol read it, or None.
        gold: The gold. If it has an option or is unknown, the result is empty.
    """
    if gold.answer is not None:
        return {}
    if gold.when:
        spans = read_spans(said) if said is not None else ()
        spans = () if isinstance(spans, str) else spans
        return {
            "iou": temporal_iou(spans, gold.when),
            "recall": temporal_recall(spans, gold.when),
        }
    if gold.text is None:
        return {}
    mine, theirs = plain_words(said or ""), plain_words(gold.text)
    exact = said is not None and mine == theirs
    return {"exact_match": float(exact), "token_f1": 1.0 if exact else token_f1(mine, theirs)}


def plain_words(text: str) -> list[str]:
    """The words of a text, normalised for comparison."""
    return _WORDS.findall(_ARTICLES.sub(" ", text.lower()))


def token_f1(said: list[str], gold: list[str]) -> float:
    """Token F1: harmonic mean of precision and recall over words."""
    common = (Counter(said) & Counter(gold)).total() if said and gold else 0
    return 2 * common / (len(said) + len(gold)) if common else 0.0
