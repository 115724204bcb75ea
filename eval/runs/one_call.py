"""The implementation of `longvideo_env.evaluate`: a run in a folder, as from the command."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from agents.cluster.joining import RayOptions
from agents.policies.build import check_policy_spec, game_of, policy_name
from eval.metrics.pairs import Run, compare, match, read_run
from eval.metrics.summary import accuracy_interval
from eval.output.formatting import format_interval, format_number
from eval.runs.budgets import Budget
from eval.runs.failures import blind_mark, stopped_mark
from eval.runs.naming import run_folder
from eval.runs.progress import EpisodeProgress
from eval.runs.run_options import BUDGETS, RunOptions, fresh_draw, settings_of
from eval.runs.selection import QuestionSelection
from eval.runs.session import open_session, play_split
from longvideo_env.config import EnvConfig
from longvideo_env.errors import MissingExtraError, SpecError
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.specs import unknown
from longvideo_env.sync import run_blocking


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: Its folder, with `episodes.jsonl`, `summary.json` and `config.json`.
        summary: Its figures, as in `summary.json`.
    """

    folder: Path
    summary: dict[str, Any]
    _kept: TemporaryDirectory[str] | None = field(default=None, repr=False)

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the scored episodes. None if none was scored."""
        return self.summary["accuracy"]  # type: ignore[no-any-return]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the accuracy, clustered by video. None with one video."""
        interval = accuracy_interval(self.summary)
        return None if interval is None else (float(interval[0]), float(interval[1]))

    @property
    def run(self) -> Run:
        """The run, read back from its folder."""
        return read_run(self.folder)

    @property
    def episodes(self) -> list[Trajectory]:
        """Its episodes, in the order of the dataset."""
        return list(self.run.episodes.values())

    def to_pandas(self) -> Any:
        """A table with one row per episode.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError("pandas", "report") from error
        names = (
            *("qid", "video_id", "show", "kind", "sample", "status", "choice", "correct"),
            *("reward", "grounded", "grounded_first", "n_turns", "error", "reward_error"),
        )
        episodes = self.episodes
        rows = [{**{n: getattr(t, n) for n in names}, **_answered(t)} for t in episodes]
        more = dict.fromkeys(name for row in rows for name in row)
        return pandas.DataFrame(rows, columns=list(dict.fromkeys([*names, *more])))

    def compare(self, other: RunResult | str | Path) -> dict[str, Any]:
        """Compare this run with another, on the questions that both played.

        Returns:
            `difference` (this run minus the other) with `difference_ci95`, clustered by video,
            `p`, and more. See `eval.metrics.pairs.compare`, where A is the other run and B this.
        """
        folder = other.folder if isinstance(other, RunResult) else Path(other)
        return compare(match(read_run(folder), self.run))

    def report(self, path: str | Path) -> Path:
        """Write one HTML page of every episode."""
        from eval.report.command import write_report  # draws on an extra

        write_report([self.folder], Path(path))
        return Path(path)

    def __str__(self) -> str:
        s = self.summary
        return (
            f"{s['policy']}: accuracy {format_number(s['accuracy'])} "
            f"({format_interval(self.interval)}), {s['n_scored']} of {s['n_finished']} episodes "
            f"scored, {s['n_failed']} failed"
            + "".join(f", {mark}" for mark in (blind_mark(s), stopped_mark(s)) if mark)
        )


def _answered(t: Trajectory) -> dict[str, Any]:
    """The extra columns of an answer without options."""
    said = {"said": t.said} if t.answer_scores else {}
    judged = {} if t.judged is None else {"judged_right": t.judged.right}
    return {**said, **t.answer_scores, **judged}


def _budget(limits: Mapping[str, Any]) -> Budget:
    for name in limits:
        if name not in BUDGETS:
            raise SpecError(unknown("budget", name, BUDGETS))
    return Budget(**limits)


def _cluster(ray: str | Mapping[str, Any] | None) -> RayOptions | None:
    if ray is None:
        return None
    given = {"address": ray} if isinstance(ray, str) else ray
    known = [item.name for item in fields(RayOptions)]
    for name in given:
        if name not in known:
            raise SpecError(unknown("option of ray", name, known))
    return RayOptions(**given)


def evaluate(
    policy: Any,
    *,
    out: str | Path | None,
    questions: str | int | Iterable[str | int] | None,
    limit: int | None,
    shuffle: int | None,
    samples: int,
    seed: int,
    concurrency: int,
    overwrite: bool,
    progress: bool,
    budget: Mapping[str, Any],
    episode_budget: Mapping[str, Any],
    fail_above: float | None,
    ray: str | Mapping[str, Any] | None,
    allow_blind: bool,
    generation: Mapping[str, Any],
    options: Mapping[str, Any],
) -> RunResult:
    """See `longvideo_env.evaluate`."""
    check_policy_spec(policy)
    cluster = _cluster(ray)
    dataset = options.get("dataset", "mini")
    if isinstance(dataset, str):
        options = {**options, "dataset": fresh_draw(dataset, seed)}
    config = EnvConfig.from_mapping({"game": game_of([policy]), **options})
    settings = settings_of(config.game, generation)
    kept = TemporaryDirectory(prefix="longvideo-") if out is None else None
    root = Path(out or (kept.name if kept else "."))
    if questions is not None and not isinstance(questions, str):
        ids = [questions] if isinstance(questions, int) else questions
        questions = ",".join(map(str, ids))
    run = RunOptions(
        [policy],
        root,
        seed,
        concurrency,
        overwrite,
        samples,
        selection=QuestionSelection(questions, limit, shuffle),
        budget=_budget(budget),
        episode_budget=_budget(episode_budget),
        fail_above=fail_above,
        ray=cluster,
        allow_blind=allow_blind,
    )
    name = policy_name(policy)
    folder = run_folder(root, name, [name])
    console = Console(stderr=True, quiet=not progress or not sys.stderr.isatty())

    async def play() -> dict[str, Any]:
        session = open_session(run, config, settings)
        with EpisodeProgress(console) as bar:
            return await play_split(policy, session, folder, bar, label=name)

    return RunResult(folder, run_blocking(play()), kept)
