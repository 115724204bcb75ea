"""Several plays of each question: what is right on average, once, always, and by majority."""

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
    """What the samples of the questions that have a gold answer say.

    A question with n samples of which c are right has, for k <= n, pass@k = 1 - C(n-c, k)/C(n, k),
    the chance that one of k samples is right (Chen et al. 2021, arXiv 2107.03374, equation 1), and
    pass^k = C(c, k)/C(n, k), the chance that all k are (Yao et al. 2024, arXiv 2406.12045). Both
    are without bias. A question with fewer than k samples, because some failed, has neither, and
    is left out of both.

    Returns:
        n: the most samples that a question has; `n_incomplete` questions have fewer. `avg`: the
        mean over questions of the share of their samples that are right. `by_k`: for k = 1, 2, 4,
        ... and n, `pass` and `all` (pass@k and pass^k) with intervals, over `n_questions`; `pass`
        and `all` beside it are those of n. `majority`: the share of questions whose most frequent
        answer is right; a tie goes to the answer that came first, and a sample without an answer
        has no vote. `same`: the share of questions with two samples or more that gave one and the
        same answer in all of them. What is undefined is None; intervals are clustered by video.
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
    """1, 2, 4, ... and n itself."""
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
    # `most_common` keeps the order of first votes among equals.
    winner = votes.most_common(1)[0][0]
    return any(_vote(t) == winner and bool(t.correct) for t in group)


def _same_answer(group: Sequence[Trajectory]) -> bool:
    return len({_vote(t) for t in group}) == 1 and _vote(group[0]) is not None


def _vote(t: Trajectory) -> Hashable | None:
    """The answer of an episode, so that equal ones are equal: words as they are compared."""
    if t.choice is not None or t.said is None:
        return t.choice
    return t.said if t.ask == WHEN else tuple(plain_words(t.said))
