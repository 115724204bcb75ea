"""Two runs on the same questions, episode by episode.

A question that one run gets right and the other wrong is what tells them apart: far fewer questions
are needed than for two separate accuracies. Difference, interval and p come from one method, which
is clustered by video (`eval.metrics.paired`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from eval.metrics.paired import Difference, clustered_difference, holm
from eval.metrics.sample_size import plan_of
from eval.metrics.summary import summarize
from eval.runs.store import CONFIG, EPISODES, read_questions
from longvideo_env.errors import InputError
from longvideo_env.records.identity import changed_questions, name_some
from longvideo_env.records.trajectory import Trajectory, read_trajectories

Pair: TypeAlias = tuple[Trajectory, Trajectory]
"""The same question and sample, as run A and run B played it."""

SAME_QUESTIONS = ("dataset", "split", "seed", "ask")
"""Where the configurations of two runs must agree for equal ids to mean equal questions."""


@dataclass(frozen=True)
class Run:
    """A run read back from its folder.

    Attributes:
        folder: Where it lies.
        config: Its `config.json`.
        episodes: By `(str(qid), sample)`, failed ones among them.
        questions: Digests of each question; none where an earlier release made the run.
    """

    folder: Path
    config: dict[str, Any]
    episodes: dict[tuple[str, int], Trajectory]
    questions: dict[str, list[str]] = field(default_factory=dict)


def read_run(path: Path) -> Run:
    """Read a run's folder, given as such or by its `episodes.jsonl`.

    Raises:
        InputError: No run lies there.
        TrajectoryError: An episode cannot be read back.
    """
    folder = path.parent if path.name == EPISODES else path
    for name in (EPISODES, CONFIG):
        if not (folder / name).is_file():
            raise InputError(
                f"expected the folder of a run, or its {EPISODES}, got {path}: {folder / name} is "
                "not there. Fix: give a folder that eval/run_policy.py wrote under --out."
            )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{folder / CONFIG} is not JSON ({error}). Fix: play the run again."
        ) from error
    found = read_trajectories(folder / EPISODES)
    episodes = {(str(t.qid), t.sample): t for t in found}
    return Run(folder, config, episodes, read_questions(folder))


def match(a: Run, b: Run) -> list[Pair]:
    """The episodes that both runs finished and that have a gold answer, in A's order.

    Raises:
        InputError: There is none, or the same id stands for other questions or another answer.
    """
    pairs = [
        (mine, theirs)
        for key, mine in a.episodes.items()
        if (theirs := b.episodes.get(key)) is not None
        and mine.correct is not None
        and theirs.correct is not None
    ]
    if not pairs:
        raise InputError(
            f"expected runs that share scored episodes, got {len(a.episodes)} episodes in "
            f"{a.folder} and {len(b.episodes)} in {b.folder} with none in common. Fix: play "
            "both with the same --dataset, --split and --seed, on questions that have an answer."
        )
    _check_questions(a, b, {str(mine.qid) for mine, _ in pairs})
    return pairs


def _check_questions(a: Run, b: Run, qids: set[str]) -> None:
    """Refuse to pair what is not the same question, where both runs say what theirs were."""
    if not a.questions or not b.questions:
        return
    shown, gold = changed_questions(a.questions, b.questions, qids)
    if shown:
        raise InputError(
            f"expected runs on the same questions, but {len(shown)} of {len(qids)} have another "
            f"text or other options in {b.folder} than in {a.folder}: {name_some(shown)}. Fix: "
            "play both on one dataset."
        )
    if gold:
        raise InputError(
            f"expected runs scored by one answer key, but that of {len(gold)} of {len(qids)} "
            f"questions differs between {a.folder} and {b.folder}: {name_some(gold)}. Fix: score "
            "both again with eval/rescore.py, and compare the results."
        )


def n_left_out(a: Run, b: Run, pairs: Sequence[Pair]) -> int:
    """How many episodes of either run have no scored counterpart; a matched pair counts once."""
    return len(a.episodes.keys() | b.episodes.keys()) - len(pairs)


def differences(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """Where the configurations differ so that equal ids may mean different questions."""
    return {
        key: (a.config.get(key), b.config.get(key))
        for key in SAME_QUESTIONS
        if a.config.get(key) != b.config.get(key)
    }


def compare(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The numbers of a comparison, in plain values.

    Returns:
        `a` and `b`, each a part of `summarize` over the pairs' episodes; the numbers of `count`
        over all pairs; and the same numbers in `by_show` and `by_kind`, each with `p_holm`, which
        is Holm's p for as many groups as there are. Where answers have no options, `answers` has
        the difference of each of their scores, by the same method.
    """
    sides: tuple[Sequence[Trajectory], ...] = tuple(zip(*pairs, strict=True))
    parts = (
        "accuracy", "accuracy_ci95", "n_videos", "behaviour", "by_show", "by_kind",
        "grounding_accuracy", "grounding_accuracy_first", "cost_per_correct_usd",
        "tokens_per_correct",
    )  # fmt: skip
    a, b = (
        {name: value for name, value in summarize(side, len(side)).items() if name in parts}
        for side in sides
    )
    groups = {f"by_{name}": _by(pairs, name) for name in ("show", "kind")}
    return {"a": a, "b": b, **count(pairs), **groups, **_answers(pairs)}


def _answers(pairs: Sequence[Pair]) -> dict[str, Any]:
    """`answers`: B less A in each score of answers without options; nothing where all have some."""
    found = {}
    for name in pairs[0][0].answer_scores:
        both = [(a, b) for a, b in pairs if name in a.answer_scores and name in b.answer_scores]
        made = clustered_difference(
            [b.answer_scores[name] - a.answer_scores[name] for a, b in both],
            [a.video_id for a, _ in both],
            [str(a.qid) for a, _ in both],
        )
        ends = None if made.interval is None else list(made.interval)
        found[name] = {"difference": made.mean, "difference_ci95": ends, "p": made.p,
                       "method": made.method, "n": len(both)}  # fmt: skip
    return {"answers": found} if found else {}


def _by(pairs: Sequence[Pair], name: str) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        if (group := getattr(pair[0], name)) is not None:
            groups.setdefault(group, []).append(pair)
    counts = {group: count(found) for group, found in sorted(groups.items())}
    add_holm(list(counts.values()))
    return counts


def add_holm(comparisons: Sequence[dict[str, Any]]) -> None:
    """Give comparisons that are made at once `p_holm` beside their `p`."""
    adjusted = holm([numbers["p"] for numbers in comparisons])
    for numbers, p in zip(comparisons, adjusted, strict=True):
        numbers["p_holm"] = p


def count_folders(a: Path, b: Path) -> dict[str, Any] | None:
    """The numbers of `count` for two runs; None where one is not there, or nothing is in common.

    Raises:
        InputError: Their questions or answer keys differ.
        TrajectoryError: An episode cannot be read back.
    """
    if not all((folder / name).is_file() for folder in (a, b) for name in (EPISODES, CONFIG)):
        return None
    runs = read_run(a), read_run(b)
    both = runs[0].episodes.keys() & runs[1].episodes.keys()
    scored = [key for key in both if all(run.episodes[key].correct is not None for run in runs)]
    return count(match(*runs)) if scored else None


def difference_of(pairs: Sequence[Pair]) -> Difference:
    """The accuracy of B less that of A, clustered by video."""
    return clustered_difference(
        [float(bool(b.correct)) - float(bool(a.correct)) for a, b in pairs],
        [a.video_id for a, _ in pairs],
        [str(a.qid) for a, _ in pairs],
    )


def count(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How often both runs, one or neither are right, and what follows.

    Returns:
        Among others `difference`, the accuracy of B less that of A, with `difference_ci95` and the
        two-sided `p` of `clustered_difference` (both None with one video), by `method`; of `n`
        pairs, `n_questions` and `n_videos` differ. `detectable` is the smallest difference that as
        many videos find four times in five, and `videos_needed` how many it takes to find this one
        so often; None where the runs never disagree, or with too few videos.
    """
    hits = [(bool(a.correct), bool(b.correct)) for a, b in pairs]
    found = difference_of(pairs)
    plan = plan_of(found.found)
    needed = plan.videos_needed(found.mean) if plan is not None and found.mean else None
    return {
        "n": len(hits),
        "n_questions": found.found.n_questions,
        "n_videos": found.found.n_clusters,
        "both_right": hits.count((True, True)),
        "a_only": hits.count((True, False)),
        "b_only": hits.count((False, True)),
        "neither": hits.count((False, False)),
        "difference": found.mean,
        "difference_ci95": None if found.interval is None else list(found.interval),
        "p": found.p,
        "method": found.method,
        "detectable": None if plan is None else plan.detectable(found.found.n_clusters),
        "videos_needed": needed,
        "per_video": found.found.n_questions / found.found.n_clusters,
    }
