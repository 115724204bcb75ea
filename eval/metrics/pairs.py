"""Two runs on the same questions, episode by episode.

Only questions that one run gets right and the other wrong make a difference. So a paired comparison
needs far fewer questions than two separate accuracies. Difference, interval and p come from one
method, clustered by video (`eval.metrics.paired`).
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
"""The same question and sample, played by run A and run B."""

SAME_QUESTIONS = ("dataset", "split", "seed", "ask")
"""Options that must be equal in two runs, so that equal ids mean equal questions."""


@dataclass(frozen=True)
class Run:
    """A run read back from its folder.

    Attributes:
        folder: Its folder.
        config: Its `config.json`.
        episodes: Its episodes by `(str(qid), sample)`, with failed ones.
        questions: Digests of each question. Empty for a run of an earlier release.
    """

    folder: Path
    config: dict[str, Any]
    episodes: dict[tuple[str, int], Trajectory]
    questions: dict[str, list[str]] = field(default_factory=dict)


def read_run(path: Path) -> Run:
    """Read a run from its folder or its `episodes.jsonl`.

    Raises:
        InputError: There is no run.
        TrajectoryError: An episode cannot be read back.
    """
    folder = path.parent if path.name == EPISODES else path
    for name in (EPISODES, CONFIG):
        if not (folder / name).is_file():
            raise InputError(
                f"expected the folder of a run, or its {EPISODES}, got {path}: {folder / name} is "
                "missing. Fix: give a folder that longvideo-env evaluate wrote under --out."
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
        InputError: There are none, or the same id means different questions or answers.
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
            "both with the same --dataset, --split and --seed, on questions with a gold answer."
        )
    _check_questions(a, b, {str(mine.qid) for mine, _ in pairs})
    return pairs


def _check_questions(a: Run, b: Run, qids: set[str]) -> None:
    """Refuse to pair different questions, if both runs have digests of theirs."""
    if not a.questions or not b.questions:
        return
    shown, gold = changed_questions(a.questions, b.questions, qids)
    if shown:
        raise InputError(
            f"expected runs on the same questions, but {len(shown)} of {len(qids)} have another "
            f"text or other options in {b.folder} than in {a.folder}: {name_some(shown)}. Fix: "
            "play both on the same dataset."
        )
    if gold:
        raise InputError(
            f"expected runs scored by one answer key, but {len(gold)} of {len(qids)} gold answers "
            f"differ between {a.folder} and {b.folder}: {name_some(gold)}. Fix: score "
            "both again with longvideo-env rescore, and compare the results."
        )


def n_left_out(a: Run, b: Run, pairs: Sequence[Pair]) -> int:
    """Number of episodes of either run without a scored counterpart. A question counts once."""
    return len(a.episodes.keys() | b.episodes.keys()) - len(pairs)


def differences(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """The options that differ, so that equal ids may mean different questions."""
    return {
        key: (a.config.get(key), b.config.get(key))
        for key in SAME_QUESTIONS
        if a.config.get(key) != b.config.get(key)
    }


def compare(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The numbers of a comparison, in plain values.

    Returns:
        - `a` and `b`: each a part of `summarize` over the pairs' episodes.
        - The numbers of `count` over all pairs.
        - `by_show` and `by_kind`: the same numbers by group, with `p_holm`, Holm's p for the number
          of groups.
        - `answers`: for answers without options, the difference of each score, by the same method.
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
    """`answers`: B - A in each score of answers without options. Empty if all have options."""
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
    """Add `p_holm` to each of several comparisons."""
    adjusted = holm([numbers["p"] for numbers in comparisons])
    for numbers, p in zip(comparisons, adjusted, strict=True):
        numbers["p_holm"] = p


def count_folders(a: Path, b: Path) -> dict[str, Any] | None:
    """The numbers of `count` for two runs. None if a run is missing, or nothing is in common.

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
    """The accuracy of B minus the accuracy of A, clustered by video."""
    return clustered_difference(
        [float(bool(b.correct)) - float(bool(a.correct)) for a, b in pairs],
        [a.video_id for a, _ in pairs],
        [str(a.qid) for a, _ in pairs],
    )


def count(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Count how often both runs, one or neither are right, and compute their difference.

    Returns:
        The counts, and among others:

        - `difference`: the accuracy of B minus the accuracy of A, with `difference_ci95` and the
          two-sided `p` of `clustered_difference` (both None with one video), and its `method`.
        - `n`, `n_questions` and `n_videos`: the number of pairs, questions and videos.
        - `detectable`: the smallest difference that this many videos find four times in five.
        - `videos_needed`: the number of videos that find this difference four times in five.

        The last two are None if the runs never disagree, or with too few videos.
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
