"""Draw the curves of one training run, or of several side by side.

    longvideo-env plot runs/grpo
    longvideo-env plot runs/seed0 runs/seed1 runs/seed2 --out docs/mini --title "GRPO on mini"
    longvideo-env plot runs/grpo --baseline starter=0.42 --baseline random=0.25

RUN is the --output-dir of train/grpo.py, or its metrics.jsonl. The picture has four panels over
training steps: reward, accuracy, turns, and use of tools (with the share of malformed turns on the
right-hand axis). It is written as PNG (150 dpi) and as SVG. The same files give the same bytes.

One run: the faint line shows the logged values. The strong line is their centred mean over --smooth
steps (fewer at both ends). The band is one standard deviation of the episodes' rewards.

Several runs: each run has its own colour and only the mean line. The black line is the mean over
the runs. The grey band spans their minimum and maximum. Both use only the steps that all runs
logged.

If a step was logged twice (the run was resumed, or started again in the same folder), the later
record counts.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.errors import MissingExtraError, SpecError
from longvideo_env.records.metrics_log import METRICS, TrainingLog, read_run
from longvideo_env.records.plotting import COLOURS, DARK, DPI, GREY, STYLE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (9.6, 6.6)
LEGEND_CHARACTERS = 115  # about one row of the legend below the panels


@dataclass(frozen=True)
class Curve:
    """A metric in a panel."""

    key: str
    label: str
    dashes: str = "-"
    colour: str = COLOURS[0]  # of a single run; with several runs each has its own
    right: bool = False  # on a separate right-hand axis from 0 to 1


REWARD = Curve("reward", "reward")
ACCURACY = Curve("episodes/accuracy", "accuracy")
HELD_OUT = "eval/accuracy"
TURNS = Curve("episodes/turns", "turns")
GROUNDING = Curve("episodes/grounding_calls", "grounding")
VISION = Curve("episodes/vision_calls", "vision", "--", COLOURS[1])
TOOLS = Curve("episodes/tool_calls", "all tools")
MALFORMED = Curve("episodes/malformed", "malformed", ":", GREY, right=True)


def draw(
    runs: Sequence[TrainingLog], *, smooth: int, baselines: dict[str, float], title: str
) -> Figure:
    """Draw the four panels.

    Args:
        runs: The runs, at least one.
        smooth: The window of the centred mean, in steps. 1 draws the values as logged.
        baselines: Accuracies to compare with, by name.
        title: Title above the panels. May be empty.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout=layout)
    (reward, accuracy), (turns, tools) = figure.subplots(2, 2, sharex=True)
    split = any(run.has(line.key) for run in runs for line in (GROUNDING, VISION))
    calls = (GROUNDING, VISION) if split else (TOOLS,)

    _panel(reward, "Reward", "mean reward per episode", [REWARD], runs, smooth)
    _panel(accuracy, "Accuracy", "share of episodes right", [ACCURACY], runs, smooth)
    _panel(turns, "Turns", "turns per episode", [TURNS], runs, smooth)
    _panel(tools, "Tool use", "calls per episode", [*calls, MALFORMED], runs, smooth)
    _draw_held_out(accuracy, runs)
    accuracy.set_ylim(0, 1)
    _draw_baselines(accuracy, baselines)
    reward.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    for axes in (turns, tools):
        axes.set_ylim(bottom=0)
        axes.set_xlabel("training step")
    handles, labels = reward.get_legend_handles_labels()
    note = f"Lines: {_smoothing(smooth)}" if len(runs) > 1 else None
    rows = math.ceil(sum(len(label) + 8 for label in labels) / LEGEND_CHARACTERS)
    below: dict[str, Any] = {"loc": "outside lower center", "ncols": math.ceil(len(labels) / rows)}
    figure.legend(handles, labels, title=note, title_fontsize=9, **below)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    return figure


def _smoothing(smooth: int) -> str:
    return f"centred mean over {smooth} steps" if smooth > 1 else "as logged"


def _panel(
    axes: Axes,
    title: str,
    unit: str,
    lines: Sequence[Curve],
    runs: Sequence[TrainingLog],
    smooth: int,
) -> None:
    from matplotlib.lines import Line2D

    axes.set_title(title)
    axes.set_ylabel(unit)
    drawn = [line for line in lines if any(run.has(line.key) for run in runs)]
    for line in drawn:
        target = _right_axes(axes) if line.right else axes
        if len(runs) == 1:
            _draw_run(target, line, runs[0], smooth)
        else:
            _draw_runs(target, line, runs, smooth)
    if not drawn:
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=GREY)
    if len(lines) > 1:
        handles = [
            Line2D([], [], ls=line.dashes, color=line.colour if len(runs) == 1 else DARK)
            for line in drawn
        ]
        # Beside the title, because no place inside the panel is always free.
        place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.13, 0.985)}
        names = [line.label for line in drawn]
        axes.legend(handles, names, ncols=3, columnspacing=1.0, handlelength=1.8, **place)


def _right_axes(axes: Axes) -> Axes:
    right = axes.twinx()
    right.set_ylim(0, 1)
    right.set_ylabel("malformed share of turns")
    right.spines["right"].set_visible(True)
    right.grid(visible=False)
    return right


def _draw_run(axes: Axes, line: Curve, run: TrainingLog, smooth: int) -> None:
    """Draw one run: the logged values, the mean, and the spread of its rewards."""
    steps, colour, marker = run.steps, line.colour, _marker(run.steps)
    if smooth > 1:
        axes.plot(steps, run.columns[line.key], color=colour, alpha=0.25, lw=0.9, label="as logged")
    mean, label = run.mean(line.key, smooth), _smoothing(smooth)
    axes.plot(steps, mean, line.dashes, color=colour, lw=1.8, marker=marker, label=label)
    if line is REWARD and run.has("reward_std"):
        std, label = run.mean("reward_std", smooth), "± 1 standard deviation of episodes' rewards"
        axes.fill_between(
            steps, mean - std, mean + std, color=colour, alpha=0.12, lw=0, label=label
        )


def _draw_runs(axes: Axes, line: Curve, runs: Sequence[TrainingLog], smooth: int) -> None:
    """Draw several runs: each one's mean, the mean over them, and their range."""
    means = {run: run.mean(line.key, smooth) for run in runs if run.has(line.key)}
    for run, colour in zip(runs, COLOURS, strict=False):
        if run in means:
            style: dict[str, Any] = {"color": colour, "lw": 1.1, "marker": _marker(run.steps)}
            axes.plot(run.steps, means[run], line.dashes, label=run.name, **style)
    # Only the steps of all runs. Otherwise the mean would jump where a run ends.
    steps = reduce(np.intersect1d, [run.steps for run in means])
    if len(means) < 2 or not len(steps):
        return
    common = np.array([mean[np.isin(run.steps, steps)] for run, mean in means.items()])
    low, high = common.min(axis=0), common.max(axis=0)
    style = {"color": DARK, "lw": 2, "marker": _marker(steps)}
    label = f"mean of the {len(means)} runs"
    axes.plot(steps, common.mean(axis=0), line.dashes, label=label, **style)
    axes.fill_between(steps, low, high, color=GREY, alpha=0.15, lw=0, label="minimum to maximum")


def _draw_held_out(axes: Axes, runs: Sequence[TrainingLog]) -> None:
    """Draw the accuracy on held-out questions, with its 95% interval, at evaluated steps."""
    found = [(run, colour) for run, colour in zip(runs, COLOURS, strict=False) if run.has(HELD_OUT)]
    for run, colour in found:
        at = np.isfinite(run.columns[HELD_OUT])
        value = run.columns[HELD_OUT][at]
        ends = [
            np.nan_to_num(np.abs(run.columns[f"{HELD_OUT}_{end}"][at] - value))
            if run.has(f"{HELD_OUT}_{end}")
            else np.zeros_like(value)
            for end in ("low", "high")
        ]
        colour = DARK if len(runs) == 1 else colour
        style: dict[str, Any] = {"color": colour, "ms": 4, "lw": 1.2, "capsize": 2}
        axes.errorbar(run.steps[at], value, yerr=ends, fmt="o-", **style)
    if found:
        axes.set_title("Accuracy (points: held out)")


def _marker(steps: NDArray[np.int64]) -> str:
    """The marker of points. A single point needs one, because it has no line."""
    return "o" if len(steps) == 1 else ""


def _draw_baselines(axes: Axes, baselines: dict[str, float]) -> None:
    """Draw each baseline as a dashed line, with its name outside the panel on the right."""
    height = -math.inf
    for name, value in sorted(baselines.items(), key=lambda item: item[1]):
        axes.axhline(value, color=GREY, lw=1, ls=(0, (5, 3)))
        height = max(value, height + 0.06)  # keep the names of close values apart
        place = axes.get_yaxis_transform()
        axes.text(1.01, height, f"{name} {value:g}", transform=place, va="center", fontsize=9)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        SpecError: An option is invalid.
    """
    parser = OptionParser(
        prog="longvideo-env plot",
        description=__doc__,
    )
    add = parser.add_argument
    many: dict[str, Any] = {"action": "append", "default": []}
    place = (
        "Folder for curves.png and curves.svg (it exists or ends in /), or a file's name, which "
    )
    place += "gets both endings. Default: the first run's folder."
    mean = "Window of the centred mean, in training steps. 1: no smoothing. Default: 10."
    label = "A run's name in the legend. Give one per RUN, in order. Default: its folder's name."
    baseline = "An accuracy from 0 to 1, drawn as a dashed line. May be repeated."
    add(
        "runs", nargs="+", metavar="RUN", help="Output folder of train/grpo.py, or a metrics.jsonl."
    )
    add("--out", metavar="PLACE", help=place)
    add("--smooth", type=int, default=10, metavar="N", help=mean)
    add("--label", **many, metavar="NAME", help=label)
    add("--baseline", **many, metavar="NAME=VALUE", help=baseline)
    add("--title", default="", help="Title above the panels. Default: none.")
    options: argparse.Namespace = parser.parse_args(argv)
    if options.smooth < 1:
        raise SpecError(f"--smooth must be at least 1, got {options.smooth}.")
    options.baseline = dict(map(_baseline, options.baseline))
    options.label = _labels([Path(run) for run in options.runs], options.label)
    return options


def _baseline(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not 0 <= value <= 1:
        raise SpecError(
            f"--baseline: expected NAME=VALUE with a share from 0 to 1, got {text!r}. "
            "Example: --baseline starter=0.42"
        )
    return name, value


def _labels(runs: Sequence[Path], labels: Sequence[str]) -> Sequence[str]:
    """The names of the runs. If two folders have the same name, all get their whole path."""
    if len(runs) > len(COLOURS):
        raise SpecError(f"there are colours for at most {len(COLOURS)} runs, got {len(runs)}.")
    if labels and len(labels) != len(runs):
        raise SpecError(f"--label: expected one for each RUN ({len(runs)}), got {len(labels)}.")
    folders = [run.parent if run.name == METRICS else run for run in runs]
    names = labels or [folder.resolve().name for folder in folders]
    if not labels and len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if any(name.startswith("_") for name in names):
        raise SpecError(
            "matplotlib's legends leave out names that start with _. Fix: give a --label per RUN."
        )
    if len(set(names)) < len(names):
        raise SpecError(f"the runs' names must differ, got {', '.join(names)}.")
    return names


def _stem(out: str | None, first_run: Path) -> Path:
    """The path of the pictures, without the ending."""
    if out is None:
        return (first_run if first_run.is_dir() else first_run.parent) / "curves"
    if out.endswith(("/", os.sep)) or Path(out).is_dir():
        return Path(out) / "curves"
    return Path(out.removesuffix(".png").removesuffix(".svg"))


def main(argv: Sequence[str]) -> None:
    """Draw the curves."""
    options = parse(argv)
    try:
        import matplotlib.style
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error

    paths = [Path(run) for run in options.runs]
    runs = [read_run(path, name) for path, name in zip(paths, options.label, strict=True)]
    # Start from the defaults, so that a user's own matplotlibrc changes nothing.
    with matplotlib.style.context(["default", STYLE]):
        figure = draw(runs, smooth=options.smooth, baselines=options.baseline, title=options.title)
        written = save(figure, _stem(options.out, paths[0]))
    for run in runs:
        print(f"{run.name}: {len(run.steps)} records, steps {run.steps[0]} to {run.steps[-1]}")
    print(*written, sep="\n")


def command(argv: Sequence[str]) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("plot", lambda: main(argv))


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
