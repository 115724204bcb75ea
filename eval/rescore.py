"""Compute the rewards and metrics of a finished run again, without any model.

    longvideo-env rescore runs/api/openai-gpt-4o
    longvideo-env rescore runs/api/openai-gpt-4o --reward reference --out runs/api-reference

The parser of this release reads the master's replies again, turn by turn. The gold answers are read
again from the dataset. So it takes only seconds to apply a changed reward, a fixed parser or a
corrected answer key, or to check a published run. Tools are not called again. Questions whose
result changes are printed, and `changes.json` beside the result has all of them.

The result is a normal run's folder. By default it is `rescored` in the run's folder. If that
exists, it is `rescored-2`, and so on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from eval.metrics.benchmark_groups import group_shares, question_facts
from eval.metrics.named_options import named_accuracy
from eval.metrics.pairs import Run, read_run
from eval.metrics.summary import summarize
from eval.output.formatting import format_number
from eval.runs.identify import questions_of
from eval.runs.store import IDENTITY, SUMMARY, RunStore, holds_run
from longvideo_env import Dataset, EnvConfig
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.datasets.forms import open_questions
from longvideo_env.datasets.kinds import question_kind
from longvideo_env.errors import InputError, SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.judging import settled
from longvideo_env.game.replay import replay
from longvideo_env.game.reward import score
from longvideo_env.records.files import write_json
from longvideo_env.records.identity import changed_questions, digest_questions, name_some
from longvideo_env.records.trajectory import Trajectory

SHOWN = ("accuracy", "grounding_accuracy", "grounding_accuracy_first", "mean_reward")
RESCORED = "rescored"
CHANGES = "changes.json"
COMPARED = (
    *("status", "choice", "correct", "grounded", "grounded_first", "reward", "reward_terms"),
    *("kind", "answer_scores", "judged"),
)
"""The fields of an episode that are computed again."""

_REWARDS = {"reward", "reward_terms"}
_NAMED = 20


@dataclass(frozen=True)
class Change:
    """The changed fields of an episode.

    Attributes:
        qid: Its question.
        sample: Its sample.
        was: The saved values, by name.
        now: The values computed again, by name.
    """

    qid: str
    sample: int
    was: dict[str, Any]
    now: dict[str, Any]

    def __str__(self) -> str:
        parts = [f"{name} {self.was[name]!r} -> {self.now[name]!r}" for name in self.was]
        sample = f", sample {self.sample}" if self.sample else ""
        return f"question {self.qid}{sample}: {'; '.join(parts)}"


def difference(was: Trajectory, now: Trajectory) -> Change | None:
    """The changed fields of an episode. None if nothing changed."""
    names = [name for name in COMPARED if getattr(was, name) != getattr(now, name)]
    if not names:
        return None
    before, after = ({name: getattr(t, name) for name in names} for t in (was, now))
    return Change(str(was.qid), was.sample, before, after)


@dataclass(frozen=True)
class Scorer:
    """Scores saved episodes.

    Attributes:
        dataset: The dataset with their gold answers.
        config: Their environment.
        game: Their game, with the reward.
    """

    dataset: Dataset
    config: EnvConfig
    game: Game

    def rescore(self, played: Trajectory) -> Trajectory:
        """An episode with its choice, facts and reward computed again.

        Raises:
            SpecError: The dataset does not have its question or its options.
        """
        task = self.dataset.task(played.qid)
        if played.option_order is not None:
            task = task.reorder(played.option_order)
        if len(task.question.options) != played.n_options:
            raise SpecError(
                f"question {played.qid} was played with {played.n_options} options, but the "
                f"dataset has {len(task.question.options)}."
            )
        if played.protocol != self.game.protocol.name:
            raise SpecError(
                f"question {played.qid} was played with protocol={played.protocol}, but the run's "
                f"configuration has protocol={self.game.protocol.name}. Fix: score the folder that "
                "the run wrote."
            )
        play = replay(played, self.game)
        if play.judged is not None:  # the saved votes decide the verdict
            play = replace(play, judged=settled(play.judged))
        result = score(play, task.gold, self.game.reward)
        return replace(
            played,
            status=play.status,
            choice=play.choice if play.status != "failed" else played.choice,
            kind=question_kind(task.question.text),
            correct=result.correct,
            grounded=result.grounded,
            grounded_first=result.grounded_first,
            reward=result.reward,
            reward_terms=result.terms,
            reward_error=result.error,
            answer_scores=dict(result.answer),
            judged=play.judged,
        )


def open_scorer(run: Run, *, reward: str | None, dataset: str | None) -> Scorer:
    """Build the scorer of a run's episodes.

    Args:
        run: The run.
        reward: A reward spec instead of the run's.
        dataset: Path of the dataset, if it was moved.

    Raises:
        SpecError: The run's configuration is invalid.
        DataError: The dataset cannot be read.
    """
    known = {item.name for item in fields(EnvConfig)}
    config = EnvConfig.from_mapping({k: v for k, v in run.config.items() if k in known})
    config = replace(
        config, reward=reward or config.reward, dataset=dataset or config.dataset, frames_root=None
    )
    data = open_questions(config, skip_invalid=True)
    return Scorer(data, config, Game.from_config(config))


def rescore_run(run: Run, scorer: Scorer, out: Path) -> tuple[dict[str, Any], list[Change]]:
    """Write a run with its episodes scored again.

    Returns:
        The summary, and the changes.
    """
    questions = questions_of(scorer.dataset)
    _check_questions(run, questions)
    episodes = [scorer.rescore(played) for played in run.episodes.values()]
    compared = map(difference, run.episodes.values(), episodes)
    changes = [change for change in compared if change is not None]
    earlier = read_summary(run)
    n_questions = int(earlier.get("n_questions") or len({t.qid for t in episodes}))
    summary = {**earlier, **summarize(episodes, n_questions), "rescored_from": str(run.folder)}
    summary["named_options"] = named_accuracy(scorer.dataset.task, episodes)
    facts = question_facts(
        scorer.dataset.task(qid) for qid in dict.fromkeys(t.qid for t in episodes)
    )
    summary["groups"] = group_shares(facts, episodes)
    config = {**run.config, "reward": scorer.config.reward, "dataset": scorer.config.dataset}
    if IDENTITY in config:
        config[IDENTITY] = {**config[IDENTITY], **digest_questions(questions)}
    with RunStore(out, config, questions=questions, overwrite=True) as store:
        for trajectory in episodes:
            store.add(trajectory)
        store.finish(summary, list(run.episodes), facts)
    write_json(out / CHANGES, {"changes": [asdict(change) for change in changes]})
    return summary, changes


def _check_questions(run: Run, now: Mapping[str, Sequence[str]]) -> None:
    """Refuse a dataset that has other questions under the same ids."""
    if not run.questions:
        return
    played = {qid for qid, _ in run.episodes} & run.questions.keys() & now.keys()
    shown, _ = changed_questions(run.questions, now, played)
    if shown:
        raise InputError(
            f"{len(shown)} questions of {run.folder} have another text or other options in the "
            f"dataset now: {name_some(shown)}. Fix: give the dataset that the run was played on "
            "as --dataset, or play the run again."
        )


def read_summary(run: Run) -> dict[str, Any]:
    """A run's summary. Empty if the run was killed before it wrote one."""
    path = run.folder / SUMMARY
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise SpecError(f"{path} is not JSON ({error}).") from error


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        "longvideo-env rescore",
        __doc__,
        tables=True,
        findings="more than the rewards changed",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="A run's folder.")
    parser.add_argument(
        "--reward", metavar="SPEC", help="Reward, such as reference or paper,validity=0.2."
    )
    parser.add_argument("--dataset", metavar="DIR", help="Path of the dataset, if it was moved.")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="Folder of the result. Default: RUN/rescored, or RUN/rescored-2 if that exists.",
    )
    return parser


def _free_folder(run: Run) -> Path:
    """A new folder for the result, beside earlier ones."""
    names = (RESCORED if n == 1 else f"{RESCORED}-{n}" for n in count(1))
    return next(run.folder / name for name in names if not (run.folder / name).exists())


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    run = read_run(options.run)
    out = options.out or _free_folder(run)
    if out.resolve() == run.folder.resolve():
        raise SpecError("--out must not be the run itself.")
    if holds_run(out):
        raise InputError(f"{out} already holds a run. Fix: give another --out.")
    scorer = open_scorer(run, reward=options.reward, dataset=options.dataset)
    before = read_summary(run)
    summary, changes = rescore_run(run, scorer, out)
    table = Table(title=None)
    table.add_column("")
    for heading in ("as played", "scored again"):
        table.add_column(heading, justify="right")
    for name in SHOWN:
        table.add_row(name, format_number(before.get(name)), format_number(summary[name]))
    console = output_console()
    console.print(table)
    for line in (*change_lines(changes, len(run.episodes), out), f"Episodes and summary: {out}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    wanted = _REWARDS if options.reward else set()
    return EXIT_FINDINGS if any(change.was.keys() - wanted for change in changes) else EXIT_DONE


def change_lines(changes: Sequence[Change], n_episodes: int, out: Path) -> list[str]:
    """The number of changed episodes, and the changes."""
    counts = {name: sum(name in change.was for change in changes) for name in COMPARED}
    what = ", ".join(f"{name} in {n}" for name, n in counts.items() if n) or "nothing"
    lines = [f"changed: {what}, of {n_episodes} episodes"]
    lines += [f"  {change}" for change in changes[:_NAMED]]
    if len(changes) > _NAMED:
        lines.append(f"  and {len(changes) - _NAMED:,} more: see {out / CHANGES}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("rescore", lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
