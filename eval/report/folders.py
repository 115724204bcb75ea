"""Read the runs that evaluations and trainings wrote to folders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from eval.metrics.pairs import Run
from eval.runs.failures import stopped_mark
from eval.runs.lines import ZST, read_records
from eval.runs.store import CONFIG, EPISODES, SUMMARY
from longvideo_env.datasets.coverage import Coverage
from longvideo_env.errors import DataError, InputError, SpecError, TrajectoryError
from longvideo_env.media.frames import spread
from longvideo_env.records.metrics_log import (
    ENVIRONMENT,
    METRICS,
    STEP_FILES,
    TrainingLog,
    rollout_files,
    run_of_rollouts,
)
from longvideo_env.records.metrics_log import read_run as read_curves
from longvideo_env.records.trajectory import Trajectory

Record: TypeAlias = dict[str, Any]

TRAINER_KEYS = ("advantage", "rollout")
"""Keys that a trainer may add to a trajectory."""


@dataclass(frozen=True)
class SavedEpisode:
    """One played episode.

    Attributes:
        trajectory: The trajectory without its segments, for metrics.
        record: The saved record. It may have keys that `Trajectory` does not know. Token ids and
            log-probabilities are replaced by their number, `n_tokens`.
        step: The training step, or None.
        play: The number, from 0, among plays of the same question and sample in this step.
    """

    trajectory: Trajectory
    record: Record
    step: int | None = None
    play: int = 0


@dataclass(frozen=True)
class Source:
    """A run to report on.

    Attributes:
        name: Its name on the page.
        kind: Whether it is an evaluation or a training.
        folder: Its folder.
        config: `config.json` of an evaluation, or `environment.json` of a training.
        episodes: Its episodes, in the order of the dataset, or by step and group.
        summary: The saved `summary.json`. Empty if there is none.
        curves: The metrics of a training, or None.
        files: The files of its episodes and curves.
        notes: Notes for the reader of the page.
    """

    name: str
    kind: Literal["evaluation", "training"]
    folder: Path
    config: Mapping[str, Any]
    episodes: tuple[SavedEpisode, ...]
    summary: Mapping[str, Any] = field(default_factory=dict)
    curves: TrainingLog | None = None
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def trajectories(self) -> list[Trajectory]:
        """The episodes as metrics need them."""
        return [episode.trajectory for episode in self.episodes]

    def as_run(self) -> Run:
        """The run as `eval.metrics.pairs` needs it."""
        found = {(str(t.qid), t.sample): t for t in self.trajectories}
        return Run(self.folder, dict(self.config), found)


def read_sources(
    paths: Sequence[Path], names: Sequence[str] | None = None, max_rollouts: int | None = None
) -> list[Source]:
    """Read runs. A folder of runs means all runs in it.

    Args:
        paths: Folders, or their `episodes.jsonl`.
        names: The runs' names. None for their policies, or folders if policies are the same.
        max_rollouts: The most episodes of a training run. If it has more, steps are left out
            evenly.

    Raises:
        SpecError: There is no run in a folder, or the names do not fit.
        TrajectoryError: An episode cannot be read back.
        MissingExtraError: Rollouts are compressed, and zstandard is not installed.
    """
    folders = [folder for path in paths for folder in _folders_of(Path(path))]
    # A training run and its rollouts are one run, also if they are in different folders.
    homes: dict[Path, Path] = {}
    for folder in folders:
        homes.setdefault((run_of_rollouts(folder) or folder).resolve(), folder)
    sources = [_read_one(folder, max_rollouts) for folder in homes.values()]
    if names and len(names) != len(sources):
        raise SpecError(f"--name: expected one for each run ({len(sources)}), got {len(names)}.")
    return [
        replace(source, name=name)
        for source, name in zip(sources, names or _names(sources), strict=True)
    ]


def _folders_of(path: Path) -> list[Path]:
    folder = path.parent if path.name.removesuffix(ZST) == EPISODES else path
    if _is_run(folder):
        return [folder]
    below = sorted(child for child in folder.glob("*/") if _is_run(child))
    if not below:
        raise InputError(
            f"expected a run, or a folder of runs, got {path}: it holds neither {EPISODES} nor "
            f"{STEP_FILES} nor {METRICS}. Fix: give the --out of longvideo-env evaluate, or the "
            "--output-dir or --save-rollouts of a training."
        )
    return below


def _is_run(folder: Path) -> bool:
    return bool(_episodes_file(folder) or _step_files(folder)) or (folder / METRICS).is_file()


def _episodes_file(folder: Path) -> Path | None:
    places = (folder / EPISODES, folder / f"{EPISODES}{ZST}")
    return next((place for place in places if place.is_file()), None)


def _step_files(folder: Path) -> list[Path]:
    return rollout_files(folder)


def _read_one(folder: Path, max_rollouts: int | None) -> Source:
    file = _episodes_file(folder)
    if file is None:
        return _read_training(folder, max_rollouts)
    config = _read_json(folder / CONFIG)
    episodes = tuple(_read_episodes(file, None))
    notes = [] if config else [f"{folder / CONFIG} is missing, so the run's options are unknown."]
    summary = _read_json(folder / SUMMARY)
    if summary.get("coverage"):
        notes += Coverage.from_json(summary["coverage"]).lines()
    if mark := stopped_mark(summary):
        notes.append(f"{mark}: {summary['stopped']}")
    return Source(
        str(config.get("policy", folder.name)),
        "evaluation",
        folder,
        config,
        episodes,
        summary,
        files=(file,),
        notes=tuple(notes),
    )


def _read_training(folder: Path, max_rollouts: int | None) -> Source:
    files = _step_files(folder)
    home = run_of_rollouts(folder) or folder
    steps: dict[int, list[Path]] = {}
    for path in files:
        steps.setdefault(_step_of(path), []).append(path)
    by_step = {step: list(_read_step(paths, step)) for step, paths in sorted(steps.items())}
    total = sum(map(len, by_step.values()))
    notes = []
    if max_rollouts is not None and total > max_rollouts:
        keep = spread(tuple(by_step), max(1, max_rollouts * len(by_step) // total))
        notes.append(
            f"{len(keep)} of {len(by_step)} training steps are shown, evenly spread "
            "(--max-rollouts)."
        )
        by_step = {step: by_step[step] for step in keep}
    curves = None
    metrics = home / METRICS
    if metrics.is_file():
        files.append(metrics)
        try:
            curves = read_curves(home, folder.name)
        except DataError as error:
            notes.append(str(error))
    episodes = tuple(episode for group in by_step.values() for episode in group)
    name = home.resolve().name
    config = _read_json(home / ENVIRONMENT)
    return Source(name, "training", home, config, episodes, {}, curves, tuple(files), tuple(notes))


def _read_step(paths: Sequence[Path], step: int) -> Iterator[SavedEpisode]:
    seen: Counter[tuple[str, int]] = Counter()
    for path in sorted(paths):
        for episode in _read_episodes(path, step):
            key = (str(episode.trajectory.qid), episode.trajectory.sample)
            yield replace(episode, play=seen[key])
            seen[key] += 1


def _step_of(path: Path) -> int:
    digits = path.name.split("-")[1].partition(".")[0]
    if not digits.isdecimal():
        raise SpecError(
            f"expected a name such as step-000001-rank-000.jsonl, got {path}. Fix: move the file "
            "to another folder."
        )
    return int(digits)


def _read_episodes(path: Path, step: int | None) -> Iterator[SavedEpisode]:
    for number, record in enumerate(read_records(path), start=1):
        try:
            slim = _slim(record)
            known = {k: v for k, v in slim.items() if k not in TRAINER_KEYS}
            trajectory = Trajectory.from_json(json.dumps({**known, "segments": []}))
        except (TrajectoryError, KeyError, TypeError, AttributeError) as error:
            raise TrajectoryError(f"{path}, line {number}: {error}") from error
        yield SavedEpisode(trajectory, slim, step)


def _slim(record: Record) -> Record:
    """The record without token ids and log-probabilities, its largest parts."""
    segments = [
        {
            **{k: v for k, v in segment.items() if k not in ("token_ids", "logprobs")},
            "n_tokens": None if segment["token_ids"] is None else len(segment["token_ids"]),
        }
        for segment in record["segments"]
    ]
    return {**record, "segments": segments}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(
            f"{path} is not JSON ({error}). Fix: play the run again, or remove the file."
        ) from error
    return value if isinstance(value, dict) else {}


def _names(sources: Sequence[Source]) -> list[str]:
    """Each run's policy, or its folder if several have the same policy."""
    counts = Counter(source.name for source in sources)
    return [str(s.folder) if counts[s.name] > 1 else s.name for s in sources]
