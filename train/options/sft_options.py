"""The options of `train/sft.py`."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from longvideo_env.config import EnvConfig
from longvideo_env.errors import InputError, SpecError
from train.options.start import Script, check_dataset


@dataclass
class SftArguments:
    """Options of this script, besides those of the environment and of TRL."""

    episodes: list[str] = field(
        default_factory=list,
        metadata={"help": "Files of saved episodes (episodes.jsonl) to learn from."},
    )
    teacher: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Or policies that play the split, such as teacher:mini. Each policy is a "
            "stage, and stages are learned in order."
        },
    )
    teacher_dataset: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Dataset of each stage, such as mini:difficulty=0. By default --dataset. Give "
            "one value for all stages, or one per stage."
        },
    )
    teacher_episodes: list[int] = field(
        default_factory=lambda: [1000],
        metadata={"help": "Episodes to play: one value for all stages, or one per stage."},
    )
    teacher_epochs: list[int] = field(
        default_factory=lambda: [1],
        metadata={"help": "Epochs over them: one value for all stages, or one per stage."},
    )
    teacher_rate: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={
            "help": "Share of the scheduled learning rate: one value for all stages, or one per "
            "stage."
        },
    )
    min_reward: float | None = field(
        default=None,
        metadata={"help": "Learn only from episodes with at least this reward. By default all."},
    )
    tiny_model_if_missing: bool = field(
        default=False,
        metadata={
            "help": "If the folder --model-name-or-path does not exist, put a tiny random model "
            "there, with whole words of the dataset as tokens."
        },
    )
    tiny_from: str | None = field(
        default=None,
        metadata={
            "help": "Start the tiny model from the weights and tokens of this model, such as "
            "mini-starter, instead of random ones."
        },
    )
    tiny_tokens: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Regular expressions. Each text that matches one in the teacher's first "
            "episodes becomes a token of the tiny model, such as a time or the fixed part of a "
            "call."
        },
    )
    overwrite: bool = field(
        default=False,
        metadata={"help": "If the output folder holds a run, empty it and start again."},
    )
    tiny_hidden_size: int = field(
        default=128,
        metadata={"help": "Width of the tiny model, a multiple of 32 (one head per 32)."},
    )


def check_sources(episodes: Sequence[str] | None, teacher: Sequence[str] | None) -> None:
    """Require one kind of source, episodes or teachers, and files that exist.

    Raises:
        SpecError: No source is given, or both kinds are.
        InputError: A file does not exist.
    """
    if bool(episodes) == bool(teacher):
        raise SpecError("give either --episodes FILE [FILE ...] or --teacher POLICY [POLICY ...].")
    missing = [path for path in episodes or () if not Path(path).is_file()]
    if missing:
        raise InputError(f"there is no file of episodes {missing[0]}. Fix: check --episodes.")


def check_tokens(patterns: Sequence[str] | None) -> None:
    """Refuse a pattern that is not a regular expression.

    Raises:
        SpecError: A pattern is not one.
    """
    for pattern in patterns or ():
        try:
            re.compile(pattern)
        except re.error as error:
            raise SpecError(
                f"tiny_tokens: {pattern!r} is not a regular expression: {error}. Fix: put a "
                "backslash before each [ ] ( ) { } . ? that is meant literally."
            ) from error


def _check(options: Namespace, env: EnvConfig) -> None:
    check_sources(options.episodes, options.teacher)
    check_tokens(options.tiny_tokens)
    if options.teacher and not options.teacher_dataset:
        check_dataset(env)


SFT = Script(
    name="sft",
    description="Train a policy on a teacher's episodes, or on saved ones.",
    own=SftArguments,
    trl="sft_config",
    output_dir="runs/sft",
    shown={
        "max_steps": "Updates of the weights. Default: what --num-train-epochs gives.",
        "learning_rate": "Highest learning rate. Default: TRL's.",
        "per_device_train_batch_size": "Examples of a process in a step. Default: TRL's.",
    },
    check=_check,
)
