"""Plan the number of videos and questions that a comparison of two runs needs.

    longvideo-env power --difference 0.03 --videos 50 --per-video 12 --disagreement 0.3 \
        --correlation 0.05
    longvideo-env power --difference 0.03 --videos 50 --pilot runs/a runs/b

The plan also depends on two other numbers: the share of questions that the two runs disagree on,
and the intra-class correlation of the differences within a video. --pilot reads both from two runs
on the same questions of a few videos. It also reads the number of questions per video, and how
uneven the videos are. Given options override the pilot. `longvideo-env compare` prints the same
plan for a comparison that is not significant.

A difference is found if p is at most 0.05 (two-sided).
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eval.metrics.paired import LEAST_VIDEOS
from eval.metrics.pairs import difference_of, match, read_run
from eval.metrics.sample_size import SampleSize, plan_of
from longvideo_env.commands.exit_codes import EXIT_DONE
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.errors import InputError, SpecError


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(prog="longvideo-env power", description=__doc__)
    add = parser.add_argument
    add("--difference", type=float, metavar="D", help="The difference to find, such as 0.03.")
    add("--videos", type=int, metavar="N", help="Number of videos.")
    add("--per-video", type=float, metavar="N", help="Mean number of questions per video.")
    add(
        "--disagreement",
        type=float,
        metavar="Q",
        help="Share of the questions that one run gets right and the other wrong.",
    )
    add(
        "--correlation",
        type=float,
        metavar="R",
        help="Correlation of the differences within a video, from 0 to 1.",
    )
    add("--pilot", nargs=2, type=Path, metavar="RUN", help="Two runs on the same questions.")
    return parser


def read_plan(options: Namespace) -> SampleSize:
    """Make the plan of a comparison from the options and the pilot.

    Raises:
        SpecError: A number is missing or out of bounds.
        InputError: The runs of the pilot never disagree.
    """
    pilot = None
    if options.pilot is not None:
        a, b = map(read_run, options.pilot)
        pilot = plan_of(difference_of(match(a, b)).found)
        if pilot is None and options.disagreement is None:
            raise InputError(
                "the runs of --pilot never disagree, so they give no plan. Fix: play more "
                "questions, or give --disagreement."
            )
    _check(options)
    plan = pilot or SampleSize(0.0, *_needed(options))
    if options.disagreement is not None:
        plan = replace(plan, variance=options.disagreement - (options.difference or 0.0) ** 2)
    if plan.variance <= 0:
        raise SpecError(
            "two runs that differ by D disagree on at least a share D of the questions. Fix: give "
            "a larger --disagreement."
        )
    if options.correlation is not None:
        plan = replace(plan, correlation=options.correlation)
    return plan if options.per_video is None else replace(plan, per_video=options.per_video)


def _needed(options: Namespace) -> tuple[float, float]:
    names = ("correlation", "disagreement", "per_video")
    missing = [f"--{n.replace('_', '-')}" for n in names if getattr(options, n) is None]
    if missing:
        raise SpecError(
            f"expected --pilot RUN RUN, or else {', '.join(missing)}. Fix: play two policies on a "
            "few videos, or give the numbers of a similar run."
        )
    return options.correlation, options.per_video


def _check(options: Namespace) -> None:
    bounds = {
        "difference": (0.0, 1.0, "above 0 and at most 1"),
        "disagreement": (0.0, 1.0, "above 0 and at most 1"),
        "videos": (0.0, float("inf"), "above 0"),
        "per_video": (0.0, float("inf"), "above 0"),
    }
    for name, (low, high, words) in bounds.items():
        value = getattr(options, name)
        if value is not None and not low < value <= high:
            raise SpecError(f"--{name.replace('_', '-')} must be {words}, got {value:g}.")
    if options.correlation is not None and not 0 <= options.correlation <= 1:
        raise SpecError(f"--correlation must be from 0 to 1, got {options.correlation:g}.")
    if options.difference is None and options.videos is None:
        raise SpecError("give --difference D, --videos N, or both.")
    if (
        options.difference is not None
        and options.disagreement is not None
        and options.difference > options.disagreement
    ):
        raise SpecError(
            f"runs that disagree on {options.disagreement:g} of the questions cannot differ by "
            f"more than that, got --difference {options.difference:g}."
        )


def plan_lines(plan: SampleSize, videos: int | None, difference: float | None) -> list[str]:
    """The plan as lines."""
    lines = [
        f"questions per video {plan.per_video:.4g} (unevenness {plan.unevenness:.3g}), variance "
        f"of a question's difference {plan.variance:.3f}, correlation within a video "
        f"{plan.correlation:.3f}"
    ]
    if videos is not None:
        questions = f"{videos:,} videos ({round(videos * plan.per_video):,} questions)"
        found = plan.detectable(videos)
        if found is None:
            lines.append(
                f"{questions} cannot show a difference: at least {LEAST_VIDEOS} are needed"
            )
        else:
            lines.append(f"{questions} find a difference of {found:.3f} four times in five")
        if difference is not None:
            power = plan.power(difference, videos)
            lines.append(f"{questions} find a difference of {difference:g} with power {power:.2f}")
    if difference is not None:
        needed = plan.videos_needed(difference)
        lines.append(
            f"no number of videos can find a difference of {difference:g}"
            if needed is None
            else f"to find {difference:g} four times in five takes {needed:,} videos "
            f"({round(needed * plan.per_video):,} questions)"
        )
    return lines


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    plan = read_plan(options)
    console = output_console()
    for line in plan_lines(plan, options.videos, options.difference):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("power", lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
