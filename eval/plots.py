r"""Plots of evaluations and trainings, as SVG and PNG.

    longvideo-env plots cost runs/dev --out plots/cost
    longvideo-env plots cost runs/dev --cost tokens --out plots/tokens
    longvideo-env plots turns runs/tables/random --out plots/turns
    longvideo-env plots curves runs/seed0 runs/seed1 runs/seed2 --out plots/seeds --metric reward

- `cost`: accuracy against the cost of an episode (--cost), with one point per run.
- `turns`: accuracy against the turn limit K, one line per policy. Grounding accuracy is dashed.
- `curves`: a metric of training runs over steps. Each seed is faint, and their mean is strong. The
  band is the mean's 95 % t-interval. With one run and the metric `reward`, the band is one standard
  deviation of the episodes' rewards.

RUN is a run's folder or a folder of runs. Bars are 95 % intervals, clustered by video. The same
runs give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from eval.metrics.cost import COSTS, episode_cost, mean_cost
from eval.metrics.intervals import CONFIDENCE
from eval.metrics.summary import accuracy_interval, summarize
from eval.report.folders import Source, read_sources
from longvideo_env.commands.exit_codes import EXIT_DONE
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.errors import MissingExtraError, SpecError
from longvideo_env.records.metrics_log import TrainingLog, read_run
from longvideo_env.records.plotting import COLOURS, DARK, GREY, STYLE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (6.4, 4.2)
MARKERS = "osD^vPX*"


def plot_cost(axes: Axes, sources: Sequence[Source], cost: str) -> None:
    """Plot accuracy against cost, with one point per run.

    Raises:
        SpecError: No run has this kind of cost.
    """
    drawn: list[float] = []
    for i, source in enumerate(sources):
        costs = [episode_cost(episode.record) for episode in source.episodes]
        spent = mean_cost(costs, source.summary.get("wall_s"))[cost]
        summary = summarize(source.trajectories, len(source.episodes))
        if spent is None or summary["accuracy"] is None:
            continue
        _point(axes, spent, summary, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        axes.plot([], [], MARKERS[i % len(MARKERS)], color=_colour(i), label=source.name)
        drawn.append(spent)
    if not drawn:
        raise SpecError(
            f"no run records {COSTS[cost]} and has gold answers. Fix: choose another "
            f"--cost: {', '.join(COSTS)}."
        )
    axes.set_xlabel(COSTS[cost])
    axes.set_xlim(0, 1.08 * max(*drawn, 1e-6))
    _accuracy_axis(axes)


def plot_turns(axes: Axes, sources: Sequence[Source]) -> None:
    """Plot accuracy and grounding accuracy against K, with one line per policy.

    Raises:
        SpecError: No run has its K in its configuration.
    """
    by_policy: dict[str, dict[int, dict[str, Any]]] = {}
    for source in _alike_but_for_turns(sources):
        summary = summarize(source.trajectories, len(source.episodes))
        policy = str(source.config.get("policy"))
        by_policy.setdefault(policy, {})[source.config["max_turns"]] = summary
    for i, (policy, found) in enumerate(by_policy.items()):
        turns = sorted(found)
        accuracy = [found[k]["accuracy"] for k in turns]
        axes.plot(turns, accuracy, "-", color=_colour(i), label=policy)
        for k in turns:
            _point(axes, k, found[k], _colour(i), MARKERS[i % len(MARKERS)])
        grounding = [found[k]["grounding_accuracy"] for k in turns]
        if None not in grounding:
            label = f"{policy}: grounding"
            axes.plot(turns, grounding, "--", color=_colour(i), lw=1.2, alpha=0.8, label=label)
    axes.set_xlabel("most turns K")
    axes.set_xticks(sorted({k for found in by_policy.values() for k in found}))
    _accuracy_axis(axes)


def _alike_but_for_turns(sources: Sequence[Source]) -> list[Source]:
    """For each policy the largest set of runs that differ only in K."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        if source.kind == "evaluation" and "max_turns" in source.config:
            rest = sorted((k, repr(v)) for k, v in source.config.items() if k != "max_turns")
            groups.setdefault(repr(rest), []).append(source)
    best: dict[str, list[Source]] = {}
    for group in groups.values():
        policy = str(group[0].config.get("policy"))
        if len(group) > len(best.get(policy, [])):
            best[policy] = group
    if not best:
        raise SpecError(
            "expected evaluations with max_turns in their config.json, got none. Fix: give runs of "
            "longvideo-env evaluate, ablations or tables."
        )
    return [source for group in best.values() for source in group]


def plot_curves(axes: Axes, runs: Sequence[TrainingLog], metric: str, smooth: int) -> None:
    """Plot a metric of training runs over steps, with a band.

    Raises:
        SpecError: A run did not log the metric.
    """
    from matplotlib.ticker import MaxNLocator

    for run in runs:
        if not run.has(metric):
            known = ", ".join(sorted(key for key in run.columns if run.has(key)))
            raise SpecError(f"{run.name} did not log {metric!r}. It logged: {known}.")
    steps = reduce(np.intersect1d, [run.steps for run in runs])
    if not len(steps):
        raise SpecError("the runs have no step in common. Fix: plot them one by one.")
    means = np.array([run.mean(metric, smooth)[np.isin(run.steps, steps)] for run in runs])
    centre = means.mean(axis=0)
    if len(runs) > 1:
        for run, line in zip(runs, means, strict=True):
            axes.plot(steps, line, lw=0.9, alpha=0.4, color=COLOURS[0], label=f"_{run.name}")
        half, label = _half_interval(means), f"95 % t-interval of the mean, {len(runs)} runs"
    elif metric == "reward" and runs[0].has("reward_std"):
        half = runs[0].mean("reward_std", smooth)
        label = "± 1 standard deviation of episodes' rewards"
    else:
        half, label = np.zeros(len(steps)), ""
    axes.plot(steps, centre, lw=2, color=COLOURS[0], label=f"mean over {smooth} steps")
    if label:
        low, high = centre - half, centre + half
        axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.18, lw=0, label=label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_xlabel("training step")
    axes.set_ylabel(metric.rpartition("/")[2].replace("_", " "))


def _half_interval(means: Any) -> Any:
    """Half the width of the t-interval of the mean over runs.

    Shape: (runs, steps) -> (steps,)
    """
    from scipy.stats import t

    n = len(means)
    error = means.std(axis=0, ddof=1) / np.sqrt(n)
    return error * float(t.ppf((1 + CONFIDENCE) / 2, n - 1))


def _point(axes: Axes, x: float, summary: dict[str, Any], colour: str, marker: str) -> None:
    y = summary["accuracy"]
    if y is None:
        return
    low, high = accuracy_interval(summary) or (y, y)  # one video gives no interval
    bars = [[y - low], [high - y]]
    axes.errorbar([x], [y], yerr=bars, fmt=marker, color=colour, capsize=3, ms=5, lw=1.2)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _accuracy_axis(axes: Axes) -> None:
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1)


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        prog="longvideo-env plots",
        description=__doc__,
    )
    add = parser.add_argument
    add("plot", choices=("cost", "turns", "curves"), help="The plot to draw.")
    add("runs", nargs="+", type=Path, metavar="RUN", help="A run, or a folder of runs.")
    add("--out", type=Path, required=True, metavar="STEM", help="Writes STEM.svg and STEM.png.")
    add("--name", action="append", metavar="NAME", help="A run's name. Give one per run, in order.")
    add("--cost", choices=list(COSTS), default="tool_calls", help="The kind of cost.")
    add("--metric", default="episodes/accuracy", help="For curves. Default: episodes/accuracy.")
    add(
        "--smooth",
        type=int,
        default=10,
        metavar="N",
        help="For curves: window of the mean, in steps. Default: 10.",
    )
    add("--title", default="", help="Title above the plot. Default: none.")
    return parser


def draw(options: argparse.Namespace) -> Figure:
    """Draw the plot that the options name.

    Raises:
        SpecError: An option does not fit these runs.
        DataError: A run cannot be read.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    if options.plot == "curves":
        names = options.name or [path.name for path in options.runs]
        if len(names) != len(options.runs):
            raise SpecError(f"--name: expected {len(options.runs)}, got {len(names)}.")
        runs = [read_run(path, name) for path, name in zip(options.runs, names, strict=True)]
        plot_curves(axes, runs, options.metric, options.smooth)
    elif options.plot == "cost":
        plot_cost(axes, read_sources(options.runs, options.name), options.cost)
    else:
        plot_turns(axes, read_sources(options.runs, options.name))
    if options.title:
        axes.set_title(options.title, color=DARK)
    axes.legend(fontsize=8.5, labelcolor=DARK, edgecolor=GREY, loc="best")
    return figure


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    if options.smooth < 1:
        raise SpecError(f"--smooth must be at least 1, got {options.smooth}.")
    try:
        import matplotlib.style
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    # Start from the defaults, so that a user's own matplotlibrc changes nothing.
    with matplotlib.style.context(["default", STYLE]):
        stem = options.out.with_name(options.out.name.removesuffix(".svg").removesuffix(".png"))
        written = save(draw(options), stem)
    sys.stdout.write("".join(f"{path}\n" for path in written))
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("plots", lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
