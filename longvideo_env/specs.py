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
from longvideo_env.tools import GroundingAgent, OracleGrounding, Toolbox, VisionAgent


def build_toolbox(config: EnvConfig, dataset: Dataset) -> Toolbox:
    """The agents that a configuration names.

    Raises:
        SpecError: A spec names no known agent.
    """
    grounding: GroundingAgent | None = None
    vision: VisionAgent | None = None
    if config.grounding == "oracle":
        grounding = OracleGrounding(dataset.gold_clips())
    elif config.grounding != "none":
        grounding = cast(GroundingAgent, _build("grounding", config.grounding, ("oracle", "none")))
    if config.vision != "none":
        vision = cast(VisionAgent, _build("vision", config.vision, ("none",)))
    return Toolbox(grounding, vision, config.grounding, config.vision)


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
