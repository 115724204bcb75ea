"""The checkpoints of a training as policies, and accuracy against their steps.

    longvideo-env evaluate --checkpoints runs/grpo
    longvideo-env evaluate --policy 'hf:runs/grpo/checkpoint-*'

The table lists accuracies by step, and `accuracy_by_step` is a picture of them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from eval.metrics.summary import accuracy_interval
from longvideo_env.errors import InputError

_STEP = re.compile(r"^(?:hf|vllm):(?P<run>.*?)/?checkpoint-(?P<step>\d+)/?$")


def step_of(policy: str) -> int | None:
    """The step of a policy that is a checkpoint. None for other policies."""
    found = _STEP.match(policy)
    return int(found["step"]) if found else None


def short_name(policy: str) -> str:
    """A policy's name in a table. For a checkpoint: the training's folder and the step."""
    found = _STEP.match(policy)
    return f"{Path(found['run']).name} step {found['step']}" if found else policy


def expand_policies(policies: Sequence[str], checkpoints: str | None) -> list[str]:
    """Name every checkpoint once, in order of steps.

    Args:
        policies: Specs. A `*` in the path of `hf:` or `vllm:` matches all fitting folders.
        checkpoints: The output folder of a training. All its checkpoints are added.

    Raises:
        InputError: There are no checkpoints.
    """
    wanted = [*policies, *([f"hf:{checkpoints}/checkpoint-*"] if checkpoints else [])]
    named: list[str] = []
    for spec in wanted:
        kind, _, path = spec.partition(":")
        if kind not in ("hf", "vllm") or "*" not in path:
            named.append(spec)
            continue
        folders = _without_torn([one for one in glob(path) if Path(one).is_dir()])
        found = [f"{kind}:{_with_base(one)}" for one in folders]
        if not found:
            raise InputError(
                f"no folder matches {path}. Fix: train with --save-steps, or name another folder."
            )
        named += sorted(found, key=lambda one: (step_of(one) or 0, one))
    return list(dict.fromkeys(named))


def _with_base(folder: str) -> str:
    """A checkpoint's folder, or BASE+ADAPTER for LoRA weights."""
    file = Path(folder, "adapter_config.json")
    if not file.is_file():
        return str(Path(folder))
    base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    return f"{base}+{Path(folder)}"


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint is complete. The trainer's state is written last."""
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _without_torn(folders: Sequence[str]) -> list[str]:
    """Leave out incomplete checkpoints, and print a note for each."""
    whole = [folder for folder in folders if is_whole(Path(folder))]
    if not whole:  # another tool wrote them, without a state
        return list(folders)
    for folder in sorted({*folders} - {*whole}):
        sys.stderr.write(f"note: {folder} is incomplete and is left out.\n")
    return whole


def draw_curve(summaries: Sequence[Mapping[str, Any]], stem: Path) -> list[Path]:
    """Write a picture of accuracy against steps with 95 % intervals.

    Args:
        summaries: The summaries of runs. Checkpoints with an accuracy are drawn, with one line per
            training. With one video there is no interval and no band.
        stem: Path without ending. STEM.png and STEM.svg are written.

    Returns:
        The files. Empty with fewer than two checkpoints, or without matplotlib.
    """
    curves: dict[str, list[tuple[int, float, Sequence[float]]]] = {}
    for row in summaries:
        found, accuracy = _STEP.match(row["policy"]), row["accuracy"]
        if found and accuracy is not None:
            point = (int(found["step"]), accuracy, accuracy_interval(row) or (accuracy, accuracy))
            curves.setdefault(Path(found["run"]).name, []).append(point)
    if not any(len(points) > 1 for points in curves.values()):
        return []
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ImportError:
        return []
    from longvideo_env.records.plotting import COLOURS, STYLE, save

    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        for i, (name, points) in enumerate(curves.items()):
            steps, accuracy, intervals = zip(*sorted(points), strict=True)
            low, high = zip(*intervals, strict=True)
            colour = COLOURS[i % len(COLOURS)]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
            axes.plot(steps, accuracy, "o-", color=colour, label=name)
        axes.set_xlabel("training step")
        axes.set_ylabel("accuracy, 95 % interval")
        axes.set_ylim(0, 1)
        axes.legend(loc="best")
        return save(figure, stem)
