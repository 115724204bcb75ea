"""The options of an environment: the fields of `EnvConfig`.

`gym.make` keywords, YAML keys and command-line flags have the same names. A field that is not given
takes the game's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from longvideo_env.errors import SpecError
from longvideo_env.specs import find_part, unknown
from longvideo_env.strict import check_field, check_fields

MAX_WINDOW = 5
RECORDING_MODES = ("off", "record", "replay", "reuse")
PROTOCOLS = ("tags", "functions", "hermes", "continuation")
TAG_SET_NAMES = ("reference", "paper")
CHOICE, WORDS, WHEN = FORMS = ("choice", "words", "when")
"""Form of the answer: one of the options, free text, or a stretch of the video."""
LABELS = ("a0", "letters", "numbers")
NO_JUDGE = "none"
RESOLUTION = 448
"""Default longest side, in pixels, of the frames that the master agent sees."""
OWN_EYES = "self"
"""Value of `vision` for a master agent that sees the frames itself."""
ADDED = ("ask", "labels", "judge", "frames", "resolution")
"""Fields that later releases added. `record` leaves them out at their default, so that older runs
can be resumed."""
LIVE = ("dataset", "tools", "reward")
"""The fields that may also hold objects. Their type is `str`, since files and flags give text."""


def _option(default: Any, text: str) -> Any:  # typed Any as `dataclasses.field` itself is
    return field(default=default, metadata={"help": text})


def _of_game(text: str, value: Any = "") -> Any:
    """An option whose default is the game's: `value` in longvideoagent."""
    shown = f", {value} in longvideoagent" if value else ""
    return _option(None, f"{text} Default: the game's{shown}.")


@dataclass(frozen=True)
class EnvConfig:
    """Everything that describes an environment.

    All values are plain. `dataset` also takes rows or a `Dataset`, `tools` also takes functions,
    and `reward` also takes functions with weights.

    Raises:
        SpecError: A value is out of range, or has the wrong type.
    """

    dataset: str = _option(
        "mini",
        "Which videos and questions: `mini`, a procedural world (or such as "
        "`mini:videos=200,seed=3,difficulty=0.5`); `embedded`, a handful written by hand; "
        "a folder or file in the layout of LongTVQA+, LongTVQA or TVQA; `hf:OWNER/NAME`, the same "
        "from the hub; or `cgbench:DIR` and others (docs/data.md).",
    )
    split: str = _option("train", "Split of the dataset, such as train, val or test.")
    game: str = _option(
        "longvideoagent",
        "The game: a bundle of tools, words, reward and rules, whose parts the options below "
        "replace. A name (longvideoagent, longvt, dvd, dvd-lite, videoagent, and "
        "longvideoagent-released, which hf:longvideoagent/... plays by itself), or "
        "module:attribute; see docs/games.md.",
    )
    tools: str = _of_game(
        "Tools of the master agent: names or module:attribute, with commas between. They add to "
        "the game's own, unless one of these is among them: then they are all there are.",
        "look,ground",
    )
    protocol: str = _of_game(
        "How actions are written: as `tags`; as calls of `functions` (the tools are JSON schemas, "
        "and `answer` is one of them); as `hermes`, calls inside the text; or as `continuation`, "
        "tags in one long reply (docs/protocols.md).",
        "tags",
    )
    prompts: str | None = _option(
        None,
        "A file of words in place of the default ones, whole or in part (`longvideo-env prompts` "
        "shows them); or worked-example, which shows whole replies to copy.",
    )
    grounding: str = _option(
        "bm25",
        "Grounding agent: bm25, lines[:MODEL], embed:MODEL, fused:bm25+embed:MODEL (MODEL: a "
        "folder with model.onnx; docs/films.md), openai:MODEL[@ENDPOINT], random, oracle (is "
        "given the gold clip) or none.",
    )
    ground_action: bool = _option(
        True,
        "Offer the tools that the grounding agent stands behind. Without them it names the first "
        "clip and is not asked again (an ablation).",
    )
    vision: str = _option(
        "captions",
        "Vision agent: captions, text (what was read in the frames), vlm:MODEL (on this machine), "
        "openai:MODEL[@ENDPOINT] (or openai:gpt-4o,frames=16), self (the master sees the frames, "
        "see frames) or none.",
    )
    max_turns: int = _of_game("Turns the master agent has (K in the paper); at least 1.", 5)
    window: int = _of_game("Evidence window: adjacent clips seen at once, 1 to 5.", 1)
    tags: str = _of_game(
        "Tag set shown in the prompt: `reference` (<search>, as released checkpoints write) or "
        "`paper` (<visual_query>). Both are always understood.",
        "reference",
    )
    instructions: bool = _of_game(
        "Open with the rules of the game. A policy that was trained on the game can do without, "
        "and its prompts are then half as long.",
        "on",
    )
    reward: str = _of_game(
        "Reward: a preset, `paper` or `reference`, with weights of terms to override or add: "
        "`paper,validity=0.2,my_parts:thrift=0.5`.",
        "paper",
    )
    ask: str = _option(
        CHOICE,
        "What is asked: `choice`, as the dataset has it; `words`, an answer in words without "
        "options; or `when`, the stretch of the video that shows the answer, in seconds "
        "(docs/answers.md).",
    )
    labels: str = _of_game(
        "Labels of the options: `a0` onward, `letters` (A, B, ...) or `numbers` (1, 2, ...).",
        "a0",
    )
    judge: str = _option(
        NO_JUDGE,
        "Judge of answers in words: openai:MODEL[@ENDPOINT][,votes=3], or none (exact match). It "
        "is shown the right answer, after the episode.",
    )
    frames: int = _option(
        0,
        "Frames of each view that the master itself is shown, where its model takes images; 0 for "
        "a master that reads (docs/seeing.md).",
    )
    resolution: int = _option(
        RESOLUTION, "Longest side of these frames in pixels; larger ones are made smaller."
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
        check_field(self, "game")
        for name, value in find_part("games", self.game).defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        check_fields(self, leave=LIVE)
        self._one_of("recording", RECORDING_MODES)
        self._one_of("tags", TAG_SET_NAMES)
        self._one_of("protocol", PROTOCOLS)
        self._one_of("ask", FORMS)
        self._one_of("labels", LABELS)
        if self.max_turns < 1:
            raise SpecError(f"max_turns must be at least 1, got {self.max_turns}.")
        if not 1 <= self.window <= MAX_WINDOW:
            raise SpecError(f"window must be 1 to {MAX_WINDOW} clips, got {self.window}.")
        self._check_frames()

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> EnvConfig:
        """Build a configuration from keywords or a YAML mapping.

        Raises:
            SpecError: A key is not an option, or a value is out of range.
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise SpecError(unknown("environment option", name, known))
        return cls(**options)

    def record(self) -> dict[str, Any]:
        """Plain values. Objects are given by name.

        Fields in `ADDED` are left out at their default.
        """
        usual = {"ask": CHOICE, "judge": NO_JUDGE, "frames": 0, "resolution": RESOLUTION}
        usual |= find_part("games", self.game).defaults
        return {
            item.name: spec_of(getattr(self, item.name))
            for item in fields(self)
            if item.name not in ADDED or getattr(self, item.name) != usual[item.name]
        }

    def text_only(self, reader: str) -> None:
        """Raise an error if frames are requested but the reader takes text only.

        Raises:
            SpecError: `frames` is above 0.
        """
        if self.frames:
            raise SpecError(
                f"{reader} reads text: it cannot be shown frames (frames={self.frames}). Fix: "
                "leave frames at 0. docs/seeing.md lists what takes frames."
            )

    def _check_frames(self) -> None:
        if self.frames < 0 or self.resolution < 1:
            raise SpecError(
                f"frames must be 0 or more and resolution at least 1 pixel, got {self.frames} and "
                f"{self.resolution}."
            )
        if self.vision == OWN_EYES and not self.frames:
            raise SpecError(
                "vision=self needs frames for the master agent to see, but frames is 0. Fix: set "
                "frames, such as frames=8, or choose another vision."
            )
        if self.frames and self.protocol == "continuation":
            self.text_only("protocol=continuation")

    def _one_of(self, name: str, values: tuple[str, ...]) -> None:
        if getattr(self, name) not in values:
            raise SpecError(
                f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}."
            )


def spec_of(part: Any) -> Any:
    """A part as plain values: a function as `module:attribute`, an object by its name."""
    if part is None or isinstance(part, str | int | float | bool):
        return part
    if isinstance(part, Mapping):
        return {str(spec_of(key)): spec_of(value) for key, value in part.items()}
    if isinstance(part, list | tuple) and all(
        isinstance(one, str) or callable(one) or hasattr(one, "spec") for one in part
    ):
        return [spec_of(one) for one in part]
    if isinstance(spec := getattr(part, "spec", None), str):
        return spec
    if callable(part):
        return f"{part.__module__}:{getattr(part, '__qualname__', type(part).__name__)}"
    return f"{type(part).__name__} in memory"


def live_parts(config: EnvConfig) -> list[str]:
    """The fields that hold objects. These cannot be written to a file or passed as a flag."""
    found = []
    for name in LIVE:
        value: Any = getattr(config, name)
        many = [*value] if isinstance(value, list | tuple | Mapping) else [value]
        if not all(isinstance(one, str | None) for one in many):
            found.append(name)
    return found
