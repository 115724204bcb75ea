"""How far a judge can be trusted: its verdicts beside what is known without it.

Where a question has options, the truth is known: the option chosen is the right one or not. Asked
about the words of that option, a judge that can be trusted says the same. Where answers are in
words, exact match stands in for the truth; a judge should take all that match, and takes more.
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
"""What verdicts are compared with, in words."""


def judge_figures(played: Sequence[Trajectory]) -> dict[str, Any]:
    """`judge`, with what became of its votes and how far it agrees; nothing where none was asked.

    Args:
        played: Episodes that did not fail.

    Returns:
        `specs`; `n`, the answers judged, `n_failed` of them without a verdict, with `errors`; the
        share of `right` verdicts; `n_votes`, `n_unread` of them without a verdict; `unanimous`, the
        share of verdicts without a vote against; `usage`; and `agreement` by what it is compared
        with (`choice`, `exact_match`): see `agreement_of`. A judge that failed is counted here
        alone: never as a wrong answer.
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
    """The share of verdicts that say what is known, with its interval clustered by video.

    Args:
        pairs: Episodes with a verdict, and what is known of each.

    Returns:
        `n`, `n_videos`, `agree` with `agree_ci95`; `n_right` answers are known to be right, of
        which the judge called `n_strict` wrong; of the others it called `n_lenient` right.
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
    """The agreement in words, a line for each thing that it is compared with."""
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
            f"that are right; called right: {row['n_lenient']:,} of {wrong:,} that are not"
        )
    return lines


def judge_lines(summary: Mapping[str, Any]) -> list[str]:
    """What stands under a table of a run with a judge."""
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
        head += f"; {found['n_unread']:,} votes held no verdict"
    failed = [f"  {n:,} x {error}" for error, n in found["errors"].items()]
    return [head, *failed, *agreement_lines(found["agreement"])]


def _known(t: Trajectory, name: str) -> bool | None:
    """What is known of an answer without the judge; None where that is nothing, or no verdict."""
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
