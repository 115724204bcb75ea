r"""Measure how often a judge of free-text answers is right, on answers with a known verdict.

    longvideo-env calibrate-judge RUN --judge openai:gpt-4o-mini,votes=3
    longvideo-env calibrate-judge RUN_WITH_A_JUDGE

RUN is a run on questions with options. For each answer the judge is asked whether the chosen option
means the same as the right one, with the block `judge` of the run's prompts. The true verdict is
known, so the share of true verdicts is the judge's agreement. Its interval is clustered by video.
The output also has both kinds of errors: wrong answers called right, and right answers called
wrong. Options that refer to others ("both A and C") are left out.

Without --judge, the verdicts in the run itself are counted, on free-text answers, and compared with
exact match. Votes are kept in a recording (by default RUN/judge.sqlite), so the same command does
not ask for them again. RUN/judge.json has the numbers. The run itself is not changed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.progress import track

from eval.metrics.intervals import few_videos
from eval.metrics.judge_agreement import judge_figures, judge_lines
from eval.metrics.pairs import Run, read_run
from eval.rescore import Scorer, open_scorer
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.config import CHOICE
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.judging import Judge, build_judge
from longvideo_env.game.replay import replay
from longvideo_env.records.files import write_json
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.tools.registry import build_toolbox

VOTES, NUMBERS = "judge.sqlite", "judge.json"


async def judge_again(
    episodes: Sequence[Trajectory], judge: Judge, scorer: Scorer, concurrency: int, stderr: Console
) -> list[Trajectory]:
    """Give answered episodes the judge's verdicts. Episodes without a verdict are left out."""
    room = asyncio.Semaphore(concurrency)

    async def one(played: Trajectory) -> Trajectory:
        task = scorer.dataset.task(played.qid)
        if played.option_order is not None:
            task = task.reorder(played.option_order)
        async with room:
            play = replace(replay(played, scorer.game), judged=None)
            play = await judge.see(play, task.question, task.gold)
        return replace(played, judged=play.judged)

    work = [asyncio.ensure_future(one(t)) for t in episodes if t.status == "answered"]
    found = []
    for done in track(work, "judging", console=stderr, transient=True):
        found.append(await done)
    return [t for t in found if t.judged is not None]


def calibrate(
    run: Run,
    spec: str | None,
    recording: Path,
    dataset: str | None,
    concurrency: int,
    stderr: Console,
) -> dict[str, Any]:
    """The figures of `eval.metrics.judge_agreement`, from a judge or from the run itself.

    Raises:
        SpecError: There is nothing to judge, or no judge.
        DataError: The dataset cannot be read.
    """  # fmt: skip
    if spec is None:
        found = judge_figures(list(run.episodes.values()))
        if not found:
            raise SpecError(f"{run.folder} was played without a judge. Fix: give --judge SPEC.")
        return found
    scorer = open_scorer(run, reward=None, dataset=dataset)
    if scorer.config.ask != CHOICE:
        raise SpecError(
            f"{run.folder} was played with ask={scorer.config.ask}, but the true verdict is known "
            "only for options. Fix: give a run with ask=choice, or leave out --judge."
        )
    config = replace(
        scorer.config, judge=spec, recording="reuse", recording_file=str(recording),
        grounding="none", vision="none",
    )  # fmt: skip
    judge = build_judge(Game.from_config(config), build_toolbox(config, scorer.dataset))
    if judge is None:
        raise SpecError("--judge none is not a judge. Fix: name a judge.")
    episodes = list(run.episodes.values())
    judged = asyncio.run(judge_again(episodes, judge, scorer, concurrency, stderr))
    if not judged:
        raise SpecError(f"no answer in {run.folder} chose an option that a judge can judge.")
    return {**judge_figures(judged), "n_left_out": len(episodes) - len(judged)}


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        "longvideo-env calibrate-judge",
        __doc__,
        findings="some answers have no verdict",
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="A run's folder.")
    add("--judge", metavar="SPEC", help="The judge, such as openai:MODEL[@ENDPOINT],votes=3.")
    add("--dataset", metavar="DIR", help="Path of the dataset, if it was moved.")
    add(
        "--recording-file",
        type=Path,
        metavar="FILE",
        help=f"Recording of the votes. Default: RUN/{VOTES}.",
    )
    add("--concurrency", type=int, default=16, metavar="C", help="Answers at once. Default: 16.")
    return parser


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    if options.concurrency < 1:
        raise SpecError(f"--concurrency must be 1 or more, got {options.concurrency}.")
    run = read_run(options.run)
    recording = options.recording_file or run.folder / VOTES
    stderr = Console(stderr=True)
    found = calibrate(
        run, options.judge, recording, options.dataset, options.concurrency, stderr
    )  # fmt: skip
    write_json(run.folder / NUMBERS, found)
    console = output_console()
    lines = judge_lines(found)
    if left := found.get("n_left_out"):
        lines.append(f"left out: {left:,} episodes without an option that can be judged")
    videos = {row["n_videos"] for row in found["judge"]["agreement"].values()}
    lines += [note for n in sorted(videos) if (note := few_videos(n))]
    for line in (*lines, f"Numbers: {run.folder / NUMBERS}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_FINDINGS if found["judge"]["n_failed"] else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("calibrate-judge", lambda: _run(argv), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
