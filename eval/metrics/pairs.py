"""Two runs on the same questions, episode by episode.

A question that one run gets right and the other wrong is what tells them apart: far fewer questions
are needed than for two separate accuracies. The p-value is that of McNemar's exact test.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from scipy.stats import binomtest

from eval.metrics.intervals import clustered_mean
from eval.metrics.summary import summarize
from eval.runs.store import CONFIG, EPISODES, read_questions
from longvideo_env.errors import SpecError
from longvideo_env.records.identity import changed_questions, name_some
from longvideo_env.records.trajectory import Trajectory, read_trajectories

Pair: TypeAlias = tuple[Trajectory, Trajectory]
"""The same question and sample, as run A and run B played it."""

SAME_QUESTIONS = ("dataset", "split", "seed")
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
        SpecError: No run lies there.
        TrajectoryError: An episode cannot be read back.
    """
    folder = path.parent if path.name == EPISODES else path
    for name in (EPISODES, CONFIG):
        if not (folder / name).is_file():
            raise SpecError(
                f"expected the folder of a run, or its {EPISODES}, got {path}: {folder / name} is "
                "not there. Fix: give a folder that eval/run_policy.py wrote under --out."
            )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(
            f"{folder / CONFIG} is not JSON ({error}). Fix: play the run again."
        ) from error
    found = read_trajectories(folder / EPISODES)
    episodes = {(str(t.qid), t.sample): t for t in found}
    return Run(folder, config, episodes, read_questions(folder))


def match(a: Run, b: Run) -> list[Pair]:
    """The episodes that both runs finished and that have a gold answer, in A's order.

    Raises:
        SpecError: There is none, or the same id stands for other questions or another answer.
    """
    pairs = [
        (mine, theirs)
        for key, mine in a.episodes.items()
        if (theirs := b.episodes.get(key)) is not None
        and mine.correct is not None
        and theirs.correct is not None
    ]
    if not pairs:
        raise SpecError(
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
        raise SpecError(
            f"expected runs on the same questions, but {len(shown)} of {len(qids)} have another "
            f"text or other options in {b.folder} than in {a.folder}: {name_some(shown)}. Fix: "
            "play both on one dataset."
        )
    if gold:
        raise SpecError(
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
        `a` and `b`, each a part of `summarize` over the pairs' episodes; the counts of
        `count` over all pairs; and the same counts in `by_show` and `by_kind`.
    """
    shows = sorted({a.show for a, _ in pairs if a.show is not None})
    sides: tuple[Sequence[Trajectory], ...] = tuple(zip(*pairs, strict=True))
    parts = (
        "accuracy", "accuracy_ci95", "accuracy_ci95_clustered", "n_videos", "behaviour", "by_show",
        "by_kind", "grounding_accuracy", "grounding_accuracy_first", "cost_per_correct_usd",
        "tokens_per_correct",
    )  # fmt: skip
    a, b = (
        {name: value for name, value in summarize(side, len(side)).items() if name in parts}
        for side in sides
    )
    by_show = {show: count([pair for pair in pairs if pair[0].show == show]) for show in shows}
    kinds = sorted({a.kind for a, _ in pairs if a.kind is not None})
    by_kind = {kind: count([pair for pair in pairs if pair[0].kind == kind]) for kind in kinds}
    return {"a": a, "b": b, **count(pairs), "by_show": by_show, "by_kind": by_kind}


def count(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How often both runs, one or neither are right, and what follows.

    Returns:
        Among others `difference`, the accuracy of B less that of A, with its interval clustered by
        video, and `p`, the two-sided p-value of McNemar's exact test. The test takes what it
        counts for independent, which samples of one question are not: it counts the first of each.
    """
    hits = [(bool(a.correct), bool(b.correct)) for a, b in pairs]
    only_a, only_b = hits.count((True, False)), hits.count((False, True))
    firsts: dict[str, Pair] = {}
    for pair in sorted(pairs, key=lambda pair: pair[0].sample):
        firsts.setdefault(str(pair[0].qid), pair)
    tested = [(bool(a.correct), bool(b.correct)) for a, b in firsts.values()]
    tested_a = tested.count((True, False))
    decided = tested_a + tested.count((False, True))
    return {
        "n": len(hits),
        "both_right": hits.count((True, True)),
        "a_only": only_a,
        "b_only": only_b,
        "neither": hits.count((False, False)),
        "difference": (only_b - only_a) / len(hits),
        "difference_ci95": _difference_interval(pairs),
        # Runs that never disagree show no difference at all; the test is not defined there.
        "p": float(binomtest(tested_a, decided).pvalue) if decided else 1.0,
        "n_tested": len(tested),
    }


def _difference_interval(pairs: Sequence[Pair]) -> list[float] | None:
    differences = [float(bool(b.correct)) - float(bool(a.correct)) for a, b in pairs]
    interval = clustered_mean(differences, [a.video_id for a, _ in pairs])
    return None if interval is None else list(interval)
