"""Kind of a question by its question word: what, who, where, why, how, when, which."""

from __future__ import annotations

import re

OTHER = "other"

_WORD = re.compile(r"\b(what|who|whom|whose|where|why|how|when|which)(?:'s|s)?\b", re.IGNORECASE)
_SAME = {"whom": "who", "whose": "who"}


def question_kind(text: str) -> str:
    """The kind of a question: its first question word that is not a conjunction.

    TVQA asks "What did Leonard say when Penny came in?" and also "When Penny came in, what did
    Leonard say?": `when` counts only if no other question word follows.
    """
    words = [match[1].lower() for match in _WORD.finditer(text)]
    asking = [word for word in words if word != "when"] or words
    return _SAME.get(asking[0], asking[0]) if asking else OTHER
