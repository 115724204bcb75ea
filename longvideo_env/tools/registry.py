"""Builds tools, and the agents behind them, from specs (plain strings).

Tools are found through the entry points `longvideo_env.tools`; grounding and vision agents and
judges through `longvideo_env.grounding`, `longvideo_env.vision` and `longvideo_env.judges`. So the
core imports none of them, and other packages can add their own. An agent's entry point names a
callable. It takes the text after the colon in the spec (`""` without one) and returns the agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longvideo_env.config import NO_JUDGE, EnvConfig
from longvideo_env.datasets import Dataset
from longvideo_env.errors import SpecError
from longvideo_env.specs import entry_point_names, find_part, is_attribute
from longvideo_env.tools.recording import Recording, open_recording
from longvideo_env.tools.tool import Tool, as_tool
from longvideo_env.tools.toolbox import Toolbox
from longvideo_env.tools.with_gold import OracleGrounding, UnsafeBoxes

ROLES = ("grounding", "vision")
"""The options of `EnvConfig` that name agents."""


def build_toolbox(config: EnvConfig, dataset: Dataset) -> Toolbox:
    """Build the tools of a configuration and the agents that it names.

    Raises:
        SpecError: A spec names no known tool or agent.
        RecordingError: The recording cannot be used.
    """
    specs: dict[str, str] = {role: getattr(config, role) for role in ROLES}
    agents = {
        role: OracleGrounding(dataset.gold_clips())
        if (role, spec) == ("grounding", "oracle")
        else _agent(role, spec)
        for role, spec in specs.items()
        if spec != "none"
    }
    if config.unsafe_boxes and "vision" in agents:
        agents["vision"] = UnsafeBoxes(agents["vision"], _box_labels(dataset))
    if config.judge != NO_JUDGE:
        agents["judge"] = _agent("judges", config.judge)
        specs["judge"] = config.judge
    game = find_part("games", config.game)
    tools = find_tools(config.tools, game.tools)
    if game.opening is not None and not isinstance(game.opening, str):
        tools = (*tools, as_tool(game.opening))
    return Toolbox(tools, agents, specs, recording=_recording(config))


def find_tools(wanted: Any, own: Sequence[Any]) -> tuple[Tool, ...]:
    """Find tools by name, `module:attribute`, function, or a list of these.

    Args:
        wanted: The option `tools`. If it names one of the game's own tools, it is the whole list.
            Otherwise it adds to the game's tools.
        own: The game's own tools.

    Raises:
        SpecError: A tool does not exist, two tools share a name, or one is named `answer`.
    """
    if isinstance(wanted, str):
        wanted = [part.strip() for part in wanted.split(",") if part.strip()]
    parts = [*wanted] if isinstance(wanted, Sequence) else [wanted]
    if not any(part in own for part in parts if isinstance(part, str)):
        parts = [*own, *parts]
    tools = tuple(as_tool(find_part("tools", p) if isinstance(p, str) else p) for p in parts)
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1 or name == "answer":
            raise SpecError(f"two actions have the name {name!r}. Fix: rename one.")
    return tools


def _recording(config: EnvConfig) -> Recording | None:
    if config.recording == "off":
        return None
    if config.recording_file is None:
        raise SpecError(
            f"recording={config.recording} needs a file. Fix: give recording_file, such as "
            "runs/calls.sqlite."
        )
    return open_recording(config.recording_file, config.recording)


def _box_labels(dataset: Dataset) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Question id -> the clip of its boxes, and their labels in order of appearance."""
    found = {}
    for task in dataset.tasks:
        gold = task.gold
        if gold.boxes and gold.clip_id is not None:
            labels = (str(box.get("label")) for boxes in gold.boxes.values() for box in boxes)
            found[str(task.qid)] = (gold.clip_id, tuple(dict.fromkeys(labels)))
    return found


def _agent(role: str, spec: str) -> Any:
    name, _, argument = spec.partition(":")
    built_in = {"none": None, **({"oracle": None} if role == "grounding" else {})}
    if name not in entry_point_names(role) and name not in built_in and is_attribute(spec):
        return find_part(role, spec)("")
    return find_part(role, name, built_in)(argument)
