"""One vocabulary of options: the fields of `EnvConfig`.

`gym.make` keywords, YAML keys and command-line flags are all named after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from longvideo_env.errors import SpecError

TAG_SET_NAMES = ("reference", "paper")
MAX_WINDOW = 5
RECORDING_MODES = ("off", "record", "replay", "reuse")


def _option(default: Any, text: str) -> Any:  # typed Any as `dataclasses.field` itself is
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class EnvConfig:
    """Everything that describes an environment, in plain values.

    Raises:
        SpecError: A value is out of range.
    """

    dataset: str = _option(
        "mini",
        "Which videos and questions: `mini`, a procedural world (or such as "
        "`mini:videos=200,seed=3,difficulty=0.5`); `embedded`, a handful written by hand; "
        "a folder or file in the layout of LongTVQA+, LongTVQA or TVQA; `hf:OWNER/NAME`, the same "
        "from the hub; or `cgbench:DIR` and others (docs/data.md).",
    )
    split: str = _option("train", "Split of the dataset, such as train, val or test.")
    grounding: str = _option(
        "bm25",
        "Grounding agent: bm25, random, openai:MODEL[@ENDPOINT], oracle (is given the gold "
        "clip) or none.",
    )
    ground_action: bool = _option(
        True,
        "Offer the grounding action. Without it the grounding agent names the first clip and is "
        "not asked again (an ablation).",
    )
    vision: str = _option(
        "captions",
        "Vision agent: captions, openai:MODEL[@ENDPOINT] (or openai:gpt-4o,frames=16) or none.",
    )
    max_turns: int = _option(5, "Turns the master agent has (K in the paper); at least 1.")
    window: int = _option(1, "Evidence window: adjacent clips seen at once, 1 to 5.")
    tags: str = _option(
        "reference",
        "Tag set shown in the prompt: `reference` (<search>, as released checkpoints write) or "
        "`paper` (<visual_query>). Both are always understood.",
    )
    instructions: bool = _option(
        True,
        "Open with the rules of the game. A policy that was trained on the game can do without, "
        "and its prompts are then half as long.",
    )
    reward: str = _option(
        "paper",
        "Reward preset, `paper` or `reference`, with weights to override: "
        "`paper,validity=0.2,tool_calls=-0.05`.",
    )
    shuffle_options: bool = _option(False, "Show the options in an order drawn from the seed.")
    frames_root: str | None = _option(
        None, "Folder with the clips' frames; by default `frames` in the dataset's folder."
    )
    skip_invalid: bool = _option(
        False, "Leave invalid rows out, and list them, instead of stopping at the first."
    )
    recording: str = _option(
        "off",
        "Tool calls: `off`; `record` them; `replay` them, so that a call which was not recorded "
        "fails; or `reuse` those recorded and record the others.",
    )
    recording_file: str | None = _option(
        None, "The recording, one SQLite file that several processes may share."
    )
    unsafe_boxes: bool = _option(
        False,
        "Show the vision agent the labels of TVQA+ boxes, as published results did. They name "
        "words of the right answer: everything written is then marked `leaky`.",
    )

    def __post_init__(self) -> None:
        if self.recording not in RECORDING_MODES:
            raise SpecError(
                f"recording must be one of {', '.join(RECORDING_MODES)}, got {self.recording!r}."
            )
        if self.max_turns < 1:
            raise SpecError(f"max_turns must be at least 1, got {self.max_turns}.")
        if not 1 <= self.window <= MAX_WINDOW:
            raise SpecError(f"window must be 1 to {MAX_WINDOW} clips, got {self.window}.")
        if self.tags not in TAG_SET_NAMES:
            raise SpecError(f"tags must be one of {', '.join(TAG_SET_NAMES)}, got {self.tags!r}.")

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> EnvConfig:
        """Build a configuration from keywords or a YAML mapping.

        Raises:
            SpecError: A key is not an option, or a value is out of range.
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise SpecError(
                    f"unknown environment option {name!r}.{hint} Options: {', '.join(known)}."
                )
        return cls(**options)
