"""Reading a training script's options: flags, and a YAML file of the same names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import yaml
from trl import ModelConfig, TrlParser

from agents.policies.starter import resolve_model
from longvideo_env.errors import SpecError


def parse_options(
    groups: Sequence[type], argv: Sequence[str], *, usage: str, description: str
) -> list[Any]:
    """Read flags and the YAML file named by `--config`; flags override it.

    Args:
        groups: Dataclasses, whose fields are the options.
        argv: The command line without the program's name.
        usage: For `--help`.
        description: For `--help`.

    Returns:
        One object for each dataclass.

    Raises:
        SpecError: An option is unknown, or its value has no meaning.
    """
    dataclasses: Any = tuple(groups)
    parser = TrlParser(dataclasses, usage=usage, description=description, allow_abbrev=False)
    try:
        *options, in_file, in_flags = parser.parse_args_and_config(
            list(argv), return_remaining_strings=True, separate_remaining_strings=True
        )
    except IndexError as error:
        raise SpecError("--config needs the path of a YAML file.") from error
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise SpecError(" ".join(str(error).split())) from error
    unknown = [word for word in (*in_file, *in_flags) if word.startswith("--")] or in_flags
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        close = get_close_matches(unknown[0], known, n=1)
        raise SpecError(
            f"unknown option {unknown[0]}{' in the YAML file' if unknown[0] in in_file else ''}."
            + (f" Did you mean {close[0]}?" if close else " --help lists them all.")
        )
    for group in options:
        if isinstance(group, ModelConfig) and group.model_name_or_path:
            group.model_name_or_path = resolve_model(group.model_name_or_path)
    return options
