"""Several plays of each question: what is right on average, once, and by majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eval.metrics.intervals import clustered_share
from longvideo_env.records.trajectory import Trajectory


def sample_scores(played: Sequence[Trajectory]) -> dict[str, Any]:
    """avg@n, pass@n and majority@n over the questions that have a gold answer.

    avg@n is the mean over questions of the share of their samples that are right, pass@n the share
    of questions with a right one among them, majority@n the share whose most frequent answer is
    right. A tie goes to the answer that came first, by the number of the sample; a sample without
    an answer has no vote. n is the most samples that a question has; questions with fewer, because
    some failed, are counted in `n_incomplete`.
    """
    questions: dict[str, list[Trajectory]] = {}
    for trajectory in sorted(played, key=lambda t: t.sample):
        if trajectory.correct is not None:
            questions.setdefault(str(trajectory.qid), []).append(trajectory)
    groups = list(questions.values())
    if not groups:
        return {"n": 0, "n_questions": 0, "avg": None, "pass": None, "majority": None}
    n = max(map(len, groups))
    videos = [group[0].video_id for group in groups]
    passed = [any(t.correct for t in group) for group in groups]
    majority = [_majority_right(group) for group in groups]
    return {
        "n": n,
        "n_questions": len(groups),
        "n_incomplete": sum(len(group) < n for group in groups),
        "avg": sum(sum(bool(t.correct) for t in g) / len(g) for g in groups) / len(groups),
        "pass": sum(passed) / len(groups),
        "pass_ci95": _interval(passed, videos),
        "majority": sum(majority) / len(groups),
        "majority_ci95": _interval(majority, videos),
    }


def _majority_right(group: Sequence[Trajectory]) -> bool:
    votes = Counter(t.choice for t in group if t.choice is not None)
    if not votes:
        return False
    # `most_common` keeps the order of first votes among equals.
    winner = votes.most_common(1)[0][0]
    return any(t.choice == winner and bool(t.correct) for t in group)


def _interval(hits: Sequence[bool], videos: Sequence[str]) -> list[float] | None:
    interval = clustered_share(hits, videos)
    return None if interval is None else list(interval)
