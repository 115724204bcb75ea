"""Command lines: options made from dataclasses' fields, and defaults from a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from longvideo_env.errors import SpecError


def add_fields(parser: argparse._ArgumentGroup, cls: type, **defaults: Any) -> None:
    """Add an option for each field of a dataclass.

    Args:
        parser: The group of options to add them to.
        cls: A dataclass of plain values whose fields carry `metadata["help"]`.
        defaults: Defaults that differ from the dataclass's.
    """
    hints = get_type_hints(cls)
    for item in fields(cls):
        default = defaults.get(item.name, item.default)
        options: dict[str, Any] = {"dest": item.name, "help": _help(item, default)}
        if default is not MISSING:
            options["default"] = default
        if hints[item.name] is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = _plain_type(hints[item.name])
            options["metavar"] = item.name.upper()
        parser.add_argument(f"--{item.name.replace('_', '-')}", **options)


def take_fields(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are fields of a dataclass."""
    return {item.name: options[item.name] for item in fields(cls)}


def parse_with_config(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> dict[str, Any]:
    """Parse arguments; `--config FILE` gives defaults by option name, which flags override.

    Flags may be written with underscores, as the trainer's are: `--max_turns`.

    Raises:
        SpecError: The file is missing or not a mapping of known options.
    """
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML with any option below.")
    args = [_dashed(arg) for arg in (sys.argv[1:] if argv is None else argv)]
    known, _ = parser.parse_known_args(_config_only(args))
    in_file: dict[str, Any] = {}
    if known.config is not None:
        in_file = _read_yaml(known.config, {action.dest for action in parser._actions})
    # argparse would append a repeated flag's values to its default instead of overriding it.
    repeated = {a.dest for a in parser._actions if isinstance(a, argparse._AppendAction)}
    parser.set_defaults(**{key: v for key, v in in_file.items() if key not in repeated})
    options = vars(parser.parse_args(args))
    for key in repeated & in_file.keys():
        if options[key] is None:
            options[key] = in_file[key]
    return options


def _dashed(arg: str) -> str:
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value if arg.startswith("--") else arg


def _config_only(args: list[str]) -> list[str]:
    for i, arg in enumerate(args):
        if arg == "--config" and i + 1 < len(args):
            return args[i : i + 2]
        if arg.startswith("--config="):
            return [arg]
    return []


def _read_yaml(path: Path, known: set[str]) -> dict[str, Any]:
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"--config {path} cannot be read: {error}") from error
    if not isinstance(options, dict):
        raise SpecError(f"--config {path} must hold a mapping, got {type(options).__name__}.")
    unknown = sorted(str(key) for key in options if key not in known)
    if unknown:
        raise SpecError(f"--config {path}: unknown option {unknown[0]!r}.")
    return options


def _plain_type(hint: Any) -> type:
    for plain in (int, float, Path):
        if hint in (plain, plain | None):
            return plain
    return str


def _help(item: Field[Any], default: Any) -> str:
    text = str(item.metadata.get("help", "")).replace("%", "%%")
    if default is MISSING or default is None or isinstance(default, bool):
        return text
    return f"{text} Default: {default}."
