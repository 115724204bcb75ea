"""From specs (plain strings) to agents.

Grounding and vision agents are found through the entry points `longvideo_env.grounding` and
`longvideo_env.vision`, so that the core imports none of them and other packages can add theirs.
An entry point names a callable that takes what follows the colon in the spec (`""` without one)
and returns the agent.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, cast

from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset
from longvideo_env.errors import SpecError
from longvideo_env.tools.recording import Recording, open_recording
from longvideo_env.tools.toolbox import (
    GroundingAgent,
    OracleGrounding,
    Toolbox,
    UnsafeBoxes,
    VisionAgent,
)


def build_toolbox(config: EnvConfig, dataset: Dataset) -> Toolbox:
    """The agents that a configuration names.

    Raises:
        SpecError: A spec names no known agent.
        RecordingError: The recording cannot be used.
    """
    grounding: GroundingAgent | None = None
    vision: VisionAgent | None = None
    if config.grounding == "oracle":
        grounding = OracleGrounding(dataset.gold_clips())
    elif config.grounding != "none":
        grounding = cast(GroundingAgent, _build("grounding", config.grounding, ("oracle", "none")))
    if config.vision != "none":
        vision = cast(VisionAgent, _build("vision", config.vision, ("none",)))
        if config.unsafe_boxes:
            vision = UnsafeBoxes(vision, _box_labels(dataset))
    return Toolbox(
        grounding,
        vision,
        config.grounding,
        config.vision,
        recording=_recording(config),
    )


def _recording(config: EnvConfig) -> Recording | None:
    if config.recording == "off":
        return None
    if config.recording_file is None:
        raise SpecError(
            f"recording={config.recording} needs a file. To mend it: give recording_file, such as "
            "runs/calls.sqlite."
        )
    return open_recording(config.recording_file, config.recording)


def _box_labels(dataset: Dataset) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Question id -> the clip that its boxes are of, and their labels in order of appearance."""
    found = {}
    for task in dataset.tasks:
        gold = task.gold
        if gold.boxes and gold.clip_id is not None:
            labels = (str(box.get("label")) for boxes in gold.boxes.values() for box in boxes)
            found[str(task.qid)] = (gold.clip_id, tuple(dict.fromkeys(labels)))
    return found


def _build(kind: str, spec: str, built_in: tuple[str, ...]) -> object:
    name, _, argument = spec.partition(":")
    factories = _factories(kind)
    if name not in factories:
        names = ", ".join(sorted({*factories, *built_in}))
        raise SpecError(f"unknown {kind} agent {spec!r}; expected one of: {names}.")
    return factories[name].load()(argument)


@cache
def _factories(kind: str) -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=f"longvideo_env.{kind}")}
