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
            "help": "Or policies that play the split, such as teacher:mini. Each is a stage: what "
            "the first plays is learned first."
        },
    )
    teacher_dataset: list[str] = field(
        default_factory=list,
        metadata={
            "help": "What each stage plays, such as mini:difficulty=0; --dataset by default. One "
            "value for all stages, or one for each."
        },
    )
    teacher_episodes: list[int] = field(
        default_factory=lambda: [1000],
        metadata={"help": "How many episodes are played, for all stages or each."},
    )
    teacher_epochs: list[int] = field(
        default_factory=lambda: [1],
        metadata={"help": "How often each of them is seen, for all stages or each."},
    )
    teacher_rate: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={"help": "Share of the scheduled learning rate, for all stages or each."},
    )
    min_reward: float | None = field(
        default=None,
        metadata={"help": "Learn only from episodes with at least this reward; by default all."},
    )
    tiny_model_if_missing: bool = field(
        default=False,
        metadata={
            "help": "If there is no folder model_name_or_path, put a tiny random model there, "
            "with whole words of the dataset as tokens."
        },
    )
    tiny_from: str | None = field(
        default=None,
        metadata={
            "help": "Give it the weights and the tokens of this model, such as mini-starter, "
            "instead of random ones."
        },
    )
    tiny_tokens: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Regular expressions: each text that one matches in the teacher's first "
            "episodes becomes a token, such as a time or the fixed part of a call."
        },
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Start anew in a folder that holds a run: it is emptied."}
    )
    tiny_hidden_size: int = field(
        default=128, metadata={"help": "Its width; a multiple of 32 (one head each)."}
    )


def check_sources(episodes: Sequence[str] | None, teacher: Sequence[str] | None) -> None:
    """Refuse to learn from nothing, from both kinds of source, or from a file that is not there.

    Raises:
        SpecError: Says which.
    """
    if bool(episodes) == bool(teacher):
        raise SpecError("give either --episodes FILE [FILE ...] or --teacher POLICY [POLICY ...].")
    missing = [path for path in episodes or () if not Path(path).is_file()]
    if missing:
        raise InputError(f"there is no file of episodes {missing[0]}. Fix: check --episodes.")


def check_tokens(patterns: Sequence[str] | None) -> None:
    """Refuse what is no regular expression.

    Raises:
        SpecError: Says which.
    """
    for pattern in patterns or ():
        try:
            re.compile(pattern)
        except re.error as error:
            raise SpecError(
                f"tiny_tokens: {pattern!r} is not a regular expression: {error}. Fix: put a "
                "backslash before each of [ ] ( ) { } . ? that stands for itself."
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
    check=_check,
)
