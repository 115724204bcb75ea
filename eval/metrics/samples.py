"""Figures of several samples per question: mean, pass@k, pass^k, and majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from math import comb
from typing import Any

from eval.metrics.intervals import clustered_share
from longvideo_env.config import WHEN
from longvideo_env.game.matching import plain_words
from longvideo_env.records.trajectory import Trajectory


def sample_scores(played: Sequence[Trajectory]) -> dict[str, Any]:
    """The figures of all samples of questions with a gold answer.

    A question has n samples, and c of them are right. For k <= n:

    - pass@k = 1 - C(n-c, k)/C(n, k) is the probability that at least one of k samples is right
      (Chen et al. 2021, arXiv 2107.03374, equation 1).
    - pass^k = C(c, k)/C(n, k) is the probability that all k samples are right (Yao et al. 2024,
      arXiv 2406.12045).

    Both are unbiased. A question with fewer than k samples, because some failed, is left out of
    both.

    Returns:
        - `n`: the most samples of a question. `n_incomplete` questions have fewer.
        - `avg`: the mean over questions of the share of right samples.
        - `by_k`: for k = 1, 2, 4, ... and n, `pass` and `all` (pass@k and pass^k) with intervals,
          over `n_questions`.
        - `pass` and `all`: those of n.
        - `majority`: the share of questions whose most frequent answer is right. A tie goes to the
          first answer. A sample without an answer has no vote.
        - `same`: the share of questions with several samples that all have the same answer.

        Undefined figures are None. Intervals are clustered by video.
    """
    questions: dict[str, list[Trajectory]] = {}
    for trajectory in sorted(played, key=lambda t: t.sample):
        if trajectory.correct is not None:
            questions.setdefault(str(trajectory.qid), []).append(trajectory)
    groups = list(questions.values())
    n = max(map(len, groups), default=0)
    several = [group for group in groups if len(group) > 1]
    by_k = {str(k): _at(k, [g for g in groups if len(g) >= k]) for k in _ks(n)}
    whole = by_k.get(str(n), _at(0, []))
    return {
        "n": n,
        "n_questions": len(groups),
        "n_incomplete": sum(len(group) < n for group in groups),
        **_share("avg", groups, lambda g: sum(bool(t.correct) for t in g) / len(g)),
        **{name: value for name, value in whole.items() if name != "n_questions"},
        "by_k": by_k,
        **_share("majority", groups, lambda g: float(_majority_right(g))),
        **_share("same", several, lambda g: float(_same_answer(g))),
    }


def _ks(n: int) -> list[int]:
    """1, 2, 4, ... and n."""
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | ({n} if n else set()))


def _at(k: int, groups: Sequence[Sequence[Trajectory]]) -> dict[str, Any]:
    def right(group: Sequence[Trajectory]) -> tuple[int, int]:
        return len(group), sum(bool(t.correct) for t in group)

    def once(group: Sequence[Trajectory]) -> float:
        n, c = right(group)
        return 1 - comb(n - c, k) / comb(n, k)

    def always(group: Sequence[Trajectory]) -> float:
        n, c = right(group)
        return comb(c, k) / comb(n, k)

    return {
        "n_questions": len(groups),
        **_share("pass", groups, once),
        **_share("all", groups, always),
    }


def _share(
    name: str,
    groups: Sequence[Sequence[Trajectory]],
    score: Callable[[Sequence[Trajectory]], float],
) -> dict[str, Any]:
    """The mean of a score over questions, with its interval."""
    values = [score(group) for group in groups]
    interval = clustered_share(values, [group[0].video_id for group in groups])
    return {
        name: sum(values) / len(values) if values else None,
        f"{name}_ci95": None if interval is None else list(interval),
    }


def _majority_right(group: Sequence[Trajectory]) -> bool:
    votes = Counter(vote for t in group if (vote := _vote(t)) is not None)
    if not votes:
        return False
    # For ties `most_common` keeps the order of first votes.
    winner = votes.most_common(1)[0][0]
    return any(_vote(t) == winner and bool(t.correct) for t in group)


def _same_answer(group: Sequence[Trajectory]) -> bool:
    return len({_vote(t) for t in group}) == 1 and _vote(group[0]) is not None


def _vote(t: Trajectory) -> Hashable | None:
    """The answer of an episode in a form that can be compared. Free text becomes plain words."""
    if t.choice is not None or t.said is None:
        return t.choice
    return t.said if t.ask == WHEN else tuple(plain_words(t.said))
