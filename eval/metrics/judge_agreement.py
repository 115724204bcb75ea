"""The agreement of a judge's verdicts with what is known without the judge.

If a question has options, the true verdict is known: the chosen option is right or not. A good
judge gives the same verdict on the words of that option. For free-text answers, exact match
replaces the truth. A good judge accepts every exact match, and also other answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agents.api.usage import Usage, usage_of
from eval.metrics.answer_forms import mean_with_interval
from longvideo_env.records.trajectory import Judged, Trajectory

CHOICE, WORDS = "choice", "exact_match"
LABELS = {CHOICE: "the option chosen", WORDS: "exact match"}
"""The names of what verdicts are compared with."""


def judge_figures(played: Sequence[Trajectory]) -> dict[str, Any]:
    """`judge`, with the figures of votes and agreement. Empty if no judge was used.

    Args:
        played: Episodes that did not fail.

    Returns:
        - `specs`: the judges.
        - `n`: answers judged. `n_failed` of them have no verdict, with `errors`. A failed judge
          never counts as a wrong answer.
        - `right`: the share of verdicts that are right.
        - `n_votes`: votes. `n_unread` of them have no verdict.
        - `unanimous`: the share of verdicts without a vote against.
        - `usage`: tokens and money.
        - `agreement`: `agreement_of` by what it is compared with (`choice`, `exact_match`).
    """
    judged = [(t, t.judged) for t in played if t.judged is not None]
    if not judged:
        return {}
    told = [(t, j) for t, j in judged if j.right is not None]
    votes = [vote for _, j in judged for vote in j.votes]
    usage = sum((usage_of(record) for _, j in judged for record in j.usage), Usage())
    right = [float(bool(j.right)) for _, j in told]
    share, interval = mean_with_interval(right, [t for t, _ in told]) if told else (None, None)
    errors = Counter(j.error for _, j in judged if j.error is not None)
    return {
        "judge": {
            "specs": sorted({j.judge for _, j in judged}),
            "n": len(judged),
            "n_failed": len(judged) - len(told),
            "errors": dict(errors.most_common(5)),
            "right": share,
            "right_ci95": interval,
            "n_votes": len(votes),
            "n_unread": votes.count(None),
            "unanimous": _share([_unanimous(j) for _, j in told]),
            "usage": usage.record(),
            "agreement": agreements(played),
        }
    }


def agreements(played: Sequence[Trajectory]) -> dict[str, dict[str, Any]]:
    """`agreement_of` by what the verdicts are compared with."""
    found = {}
    for name in (CHOICE, WORDS):
        pairs = [(t, known) for t in played if (known := _known(t, name)) is not None]
        if pairs:
            found[name] = agreement_of(pairs)
    return found


def agreement_of(pairs: Sequence[tuple[Trajectory, bool]]) -> dict[str, Any]:
    """The share of verdicts that match the known verdict, with its interval clustered by video.

    Args:
        pairs: Episodes with a verdict, and the known verdict of each.

    Returns:
        `n`, `n_videos`, and `agree` with `agree_ci95`. `n_right` answers are known to be right. The
        judge called `n_strict` of them wrong, and `n_lenient` of the other answers right.
    """
    verdicts = [bool(t.judged and t.judged.right) for t, _ in pairs]
    known = [right for _, right in pairs]
    same = [float(a == b) for a, b in zip(verdicts, known, strict=True)]
    share, interval = mean_with_interval(same, [t for t, _ in pairs])
    both = list(zip(verdicts, known, strict=True))
    return {
        "n": len(pairs),
        "n_videos": len({t.video_id for t, _ in pairs}),
        "agree": share,
        "agree_ci95": interval,
        "n_right": sum(known),
        "n_strict": both.count((False, True)),
        "n_lenient": both.count((True, False)),
    }


def agreement_lines(found: Mapping[str, Any]) -> list[str]:
    """The agreement as lines, one for each comparison."""
    labels = {
        CHOICE: "on questions with options, with the option chosen",
        WORDS: "on answers in words, with exact match",
    }
    lines = []
    for name, row in found.items():
        ends = row["agree_ci95"]
        within = "one video: no interval" if ends is None else f"{ends[0]:.3f}-{ends[1]:.3f}"
        wrong = row["n"] - row["n_right"]
        lines.append(
            f"agreement {labels[name]}: {row['agree']:.3f} ({within}), n = {row['n']:,} of "
            f"{row['n_videos']:,} videos; called wrong: {row['n_strict']:,} of {row['n_right']:,} "
            f"right answers; called right: {row['n_lenient']:,} of {wrong:,} wrong answers"
        )
    return lines


def judge_lines(summary: Mapping[str, Any]) -> list[str]:
    """The lines under a run's table for a judge."""
    found = summary.get("judge")
    if not found:
        return []
    used = found["usage"]
    cost = f", ${used['cost_usd']:.4f}" if used.get("cost_usd") is not None else ""
    tokens = f"{used['prompt_tokens']:,} + {used['completion_tokens']:,} tokens"
    head = (
        f"judge {', '.join(found['specs'])}: {found['n']:,} answers, {found['n_votes']:,} votes, "
        f"{tokens}{cost}"
    )
    if found["n_failed"]:
        head += f"; {found['n_failed']:,} without a verdict, left out of the accuracy"
    if found["n_unread"]:
        head += f"; {found['n_unread']:,} votes without a verdict"
    failed = [f"  {n:,} x {error}" for error, n in found["errors"].items()]
    return [head, *failed, *agreement_lines(found["agreement"])]


def _known(t: Trajectory, name: str) -> bool | None:
    """Whether an answer is known to be right without the judge. None if unknown or not judged."""
    if t.judged is None or t.judged.right is None:
        return None
    if name == CHOICE:
        return bool(t.correct) if t.choice is not None and t.correct is not None else None
    match = t.answer_scores.get("exact_match")
    return None if match is None else match == 1.0


def _unanimous(judged: Judged) -> bool:
    return len({vote for vote in judged.votes if vote is not None}) == 1


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
