"""Parse the options of a training script: its own, the environment's and TRL's."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import HfArgumentParser
from transformers.utils import logging
from trl import ModelConfig

from agents.policies.starter import resolve_model
from longvideo_env.errors import SpecError
from train.options.start import StartParser


class TrainingParser(StartParser, HfArgumentParser):
    """`StartParser` with options made from dataclasses by transformers' parser."""


def parse_options(
    groups: Sequence[type],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    defaults: Mapping[str, Any],
    tables: bool = False,
) -> list[Any]:
    """Read flags and the YAML file named by `--config`. Flags override the file.

    Args:
        groups: Dataclasses whose fields are the options. `--help-all` shows TRL's, `--help` does
            not.
        argv: The command line without the program's name.
        prog: The script's name.
        description: For `--help`.
        defaults: Defaults that differ from the dataclasses' own.
        tables: Whether the command prints tables, and takes `--format`.

    Returns:
        One object for each dataclass.

    Raises:
        SpecError: An option is unknown, or its value is invalid.
    """
    dataclasses: Any = tuple(groups)
    parser = TrainingParser(
        prog=prog, description=description, config=True, tables=tables, dataclass_types=dataclasses
    )
    parser.set_defaults(**defaults)
    _group(parser, groups)
    if "--help-all" in argv:
        sys.stdout.write(parser.format_whole_help())
        sys.exit(0)
    peek, _ = parser.parse_known_args(argv)
    if peek.use_cpu or not torch.accelerator.is_available():
        parser.set_defaults(use_cpu=True, bf16=False)
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed warns when it has to guess
    elif torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        parser.set_defaults(bf16=False)
    try:
        *options, unknown = parser.parse_args_into_dataclasses(
            list(argv), return_remaining_strings=True, look_for_args_file=False
        )
    except (OSError, TypeError, ValueError) as error:
        raise SpecError(" ".join(str(error).split())) from error
    if unknown:
        parser.refuse_unknown(unknown)
    for group in options:
        if isinstance(group, ModelConfig) and group.model_name_or_path:
            group.model_name_or_path = resolve_model(group.model_name_or_path)
            if Path(group.model_name_or_path).is_dir():  # the bar of a download stays
                logging.disable_progress_bar()
    return [group for group in options if not isinstance(group, argparse.Namespace)]


def _group(parser: TrainingParser, groups: Sequence[type]) -> None:
    """Put the options of each dataclass under their own heading."""
    loose = parser._optionals._group_actions
    for cls in groups:
        names = {item.name for item in fields(cls)}
        heading = parser.add_argument_group(cls.__name__)
        heading._group_actions += [action for action in loose if action.dest in names]
        loose[:] = [action for action in loose if action.dest not in names]
