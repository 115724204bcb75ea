"""How close an answer without options is to the gold: words by equality, time by what is common.

answer_scores("The red mug.", Gold(text="a red mug"))     # exact_match 1.0, token_f1 1.0
answer_scores("10-20", Gold(when=((15.0, 30.0),)))        # iou 0.25, recall 0.333...

Words are compared as in SQuAD (Rajpurkar et al., arXiv 1606.05250): without case, punctuation and
the articles a, an, the. Token F1 is the harmonic mean of precision and recall of words, with
repetitions. `RIGHT_FROM_IOU` says from which temporal IoU on a stretch counts as right.
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
    """The scores of an answer, each 0 to 1; an episode without an answer has 0.

    Args:
        said: The answer as the protocol read it, or None.
        gold: The gold. Empty scores where it has an option, or nothing at all.
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
    """The words of a text as they are compared."""
    return _WORDS.findall(_ARTICLES.sub(" ", text.lower()))


def token_f1(said: list[str], gold: list[str]) -> float:
    """Harmonic mean of the shares of words of each that the other has, too."""
    common = (Counter(said) & Counter(gold)).total() if said and gold else 0
    return 2 * common / (len(said) + len(gold)) if common else 0.0
