"""The same syntax of options for every command of the project.

    parser = OptionParser("longvideo-env mini", __doc__, config=True)
    add_fields(parser.add_argument_group("environment"), EnvConfig)
    options = parser.parse_args(argv)

`--max-turns 3`, `--max_turns 3` and `--max_turns=3` mean the same. A switch is written `--flag`,
`--no-flag`, `--flag true` or `--flag false`. `--config FILE` is YAML with option names as keys, and
flags override it. A wrong command line gives one line of usage, one line with the error, and exit
code 2. The error about an unknown option suggests the closest name. If a help text is longer than a
screen, `--help` shows only the most common options, and `--help-all` shows all. `--help` writes
names with dashes and adds each default.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import yaml

from longvideo_env.commands.completion import ASKED, answer
from longvideo_env.commands.exit_codes import EXIT_ERROR, EXIT_USAGE, exit_code_line
from longvideo_env.commands.help_text import (
    HelpFormatter,
    first_commands,
    is_switch,
    usage_line,
    with_dashes,
    wrapped,
)
from longvideo_env.commands.typeset import TABLE_FORMATS, TEXT, table_format

HELP_LINES = 44
"""The most lines that `--help` may have."""

_OPTION_NAMES = re.compile(r"(?<![\w-])--\w[\w-]*(?:/--\w[\w-]*)*")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class _Switch(argparse.Action):
    """An option that is on or off."""

    on_or_off = True

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        more = {"default": False, "metavar": "true|false", **more}
        super().__init__(option_strings, dest, nargs="?", const=True, type=_to_bool, **more)

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, values)


class _WholeHelp(argparse.Action):
    """Print every option, and end the process."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **more)

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        sys.stdout.write(parser.format_whole_help())
        parser.exit()


def _one_name(names: str) -> str:
    """Turn argparse's `--max_turns/--max-turns` into `--max-turns`."""
    return "/".join(dict.fromkeys(map(with_dashes, names.split("/"))))


def _to_bool(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return _BOOLEANS[text.lower()]


class OptionParser(argparse.ArgumentParser):
    """A command line in the project's syntax.

    Args:
        prog: The command's name in messages.
        description: The help text. It keeps its line breaks.
        config: Whether there is a `--config FILE`.
        common: The options that `--help` shows if there is no room for all, most important first.
        tables: Whether the command prints tables. Then it has `--format` and `--json`.
        findings: When the command ends with exit code 3. Empty if it never does.
        more: For `argparse.ArgumentParser`.
    """

    help_all: Mapping[str, Any] | None = None
    """The arguments of the option `--help-all`. None if the parser itself prints the help."""

    def __init__(
        self,
        prog: str | None = None,
        description: str | None = None,
        *,
        config: bool = False,
        common: Sequence[str] = (),
        tables: bool = False,
        findings: str = "",
        **more: Any,
    ) -> None:
        more["formatter_class"] = HelpFormatter
        more["allow_abbrev"] = False
        if tables:
            more["conflict_handler"] = "resolve"  # some commands' --json names a file
        super().__init__(prog=prog, description=description, **more)
        self.register("action", "store_true", _Switch)
        self.common = common
        whole = {"action": _WholeHelp, "help": argparse.SUPPRESS}
        self.add_argument("--help-all", **(self.help_all or whole))
        self._config = config
        self._in_file: set[str] = set()
        self._findings = findings
        self._tables = tables
        if tables:
            self.add_argument(
                "--format",
                choices=TABLE_FORMATS,
                default=TEXT,
                help="The format of tables. Except for text, all other output goes to stderr.",
            )
            self.add_argument("--json", action="store_true", help="The same as --format json.")
        if config:
            self.add_argument(
                "--config", metavar="FILE", help="A YAML file with any option. Flags override it."
            )

    def format_help(self) -> str:
        """The help text. If it is longer than `HELP_LINES`, only with the most common options."""
        whole = self.format_whole_help()
        return whole if whole.count("\n") <= HELP_LINES else self._brief_help()

    def format_whole_help(self) -> str:
        """The help text with every option."""
        text = (self.description or "").strip("\n")
        body = HelpFormatter(self.prog).sections(self._action_groups)
        return f"{self.format_usage()}\n{text}\n{body}\n{self._exit_codes()}"

    def format_usage(self) -> str:
        """The required arguments, in one line."""
        return usage_line(self)

    def _exit_codes(self) -> str:
        return wrapped(exit_code_line(self._findings))

    def _brief_help(self) -> str:
        needed = [a for a in self._actions if a.required or not a.option_strings]
        wanted = [self._option_string_actions.get(self._known(f"--{name}")) for name in self.common]
        others = [a for a in self._actions if a.help != argparse.SUPPRESS and a.dest != "help"]
        ranked = dict.fromkeys([*needed, *filter(None, wanted), *others])
        title, _, rest = (self.description or "").strip().partition("\n")
        examples = re.findall(r"(?:^    .*\n)+", rest + "\n", re.MULTILINE)[:1]
        head = f"{self.format_usage()}\n{title}\n"
        head += "".join("\n" + first_commands(few) for few in examples)
        room = HELP_LINES - 3 - (head + self._exit_codes()).count("\n")
        shown: list[argparse.Action] = []
        body = ""
        for action in ranked:
            longer = HelpFormatter(self.prog).sections(self._action_groups, [*shown, action])
            if longer.count("\n") > room:
                break
            shown, body = [*shown, action], longer
        left = len(others) - len(set(shown) & set(others))
        what = f"{left} more options" if left else "The whole text"
        return f"{head}{body}\n{self._exit_codes()}\n{what}: {self.prog} --help-all\n"

    def error(self, message: str) -> NoReturn:
        """Write one line of usage and one line with the error, and exit with code 2."""
        said = _OPTION_NAMES.sub(lambda found: _one_name(found[0]), " ".join(message.split()))
        self.exit(EXIT_USAGE, f"{self.format_usage()}{self.prog}: {said}\n")

    def refuse_file(self, message: str) -> NoReturn:
        """Write an error about the file of `--config` in one line, and exit with code 1."""
        self.exit(EXIT_ERROR, f"{self.prog}: {' '.join(message.split())}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the command line and the file of `--config`.

        Args:
            args: The arguments after the command's name. Default: those of the process.
            namespace: For argparse.
        """
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.refuse_unknown(unknown)
        return options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As `parse_args`, but also return the unknown arguments, with the file's keys."""
        if ASKED in os.environ:  # a shell asks for candidates
            answer(self)
        given = [str(arg) for arg in (sys.argv[1:] if args is None else args)]
        in_flags = {self._known(arg.partition("=")[0]) for arg in given if arg.startswith("--")}
        from_file = self._from_file(given, in_flags) if self._config else []
        words = [*self._spelled(from_file), *self._spelled(given)]
        options, unknown = super().parse_known_args(words, namespace)
        if self._tables:
            table_format.set("json" if options.json is True else options.format)
        return options, unknown

    def refuse_unknown(self, unknown: Sequence[str]) -> NoReturn:
        """Refuse an unknown option, and suggest the closest name."""
        names = [arg for arg in unknown if arg.startswith("-")] or list(unknown)
        name = names[0].partition("=")[0]
        spelled: dict[str, str] = {}
        for option in self._option_string_actions:
            spelled.setdefault(option.replace("_", "-"), option)
        close = get_close_matches(name.replace("_", "-"), spelled, n=1)
        hint = f"Did you mean {with_dashes(close[0])}?" if close else "--help lists the options."
        where = " in the YAML file" if name in self._in_file else ""
        self.error(f"unknown option {name}{where}. {hint}")

    def _known(self, name: str) -> str:
        """The declared name of an option, typed with `-` or with `_`."""
        stem = name[2:]
        for option in (name, f"--{stem.replace('_', '-')}", f"--{stem.replace('-', '_')}"):
            if option in self._option_string_actions:
                return option
        return name

    def _spelled(self, args: Sequence[str]) -> Iterator[str]:
        """The command line in argparse's syntax."""
        words = iter(enumerate(args))
        for i, arg in words:
            if arg == "--":
                yield from args[i:]
                return
            if not arg.startswith("--"):
                yield arg
                continue
            name, equals, value = arg.partition("=")
            option = self._known(name)
            negated = self._known("--" + name[5:]) if name[:5] in ("--no-", "--no_") else ""
            if option in self._option_string_actions or not self._is_switch(negated):
                if self._is_switch(option) and not equals:
                    follows = args[i + 1].lower() if i + 1 < len(args) else ""
                    equals, value = "=", follows if follows in _BOOLEANS else "true"
                    if follows in _BOOLEANS:
                        next(words)
                yield option + equals + value
            else:
                yield f"{negated}=false"

    def _is_switch(self, option: str) -> bool:
        action = self._option_string_actions.get(option)
        return action is not None and is_switch(action)

    def _from_file(self, args: Sequence[str], in_flags: set[str]) -> list[str]:
        """The file's options as flags, without the options that the command line has too."""
        path = None
        for i, arg in enumerate(args):
            if arg == "--config":
                path = args[i + 1] if i + 1 < len(args) else ""
            elif arg.startswith("--config="):
                path = arg.partition("=")[2]
        if path is None:
            return []
        if not path:
            self.error("--config expects the path of a YAML file.")
        flags: list[str] = []
        for key, value in self._read_yaml(Path(path)).items():
            option = self._known(f"--{key}")
            self._in_file.add(option)
            if option not in in_flags and value is not None:
                flags += self._as_flags(option, value)
        return flags

    def _as_flags(self, option: str, value: Any) -> list[str]:
        if not isinstance(value, list):
            return [f"{option}={_as_text(value)}"]
        action = self._option_string_actions.get(option)
        if action is not None and action.nargs in ("+", "*"):
            return [option, *map(_as_text, value)]
        if action is not None and not isinstance(action, argparse._AppendAction):
            self.error(f"--config: expected one {option}, got {', '.join(map(_as_text, value))}.")
        return [f"{option}={_as_text(one)}" for one in value]

    def _read_yaml(self, path: Path) -> Mapping[str, Any]:
        try:
            options = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
            self.refuse_file(f"{path}{line}: invalid YAML: {error.problem or error.context}.")
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self.refuse_file(f"--config {path} cannot be read: {why}.")
        if not isinstance(options, dict):
            self.refuse_file(f"--config {path} must be a mapping, got {type(options).__name__}.")
        return options


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def add_fields(
    parser: argparse._ActionsContainer,
    cls: type,
    *,
    only: Sequence[str] = (),
    undecided: Sequence[str] = (),
    **defaults: Any,
) -> None:
    """Add an option for each field of a dataclass.

    Args:
        parser: The parser, or a group of its options.
        cls: A dataclass of plain values whose fields carry `metadata["help"]`.
        only: The fields to add. Default: all.
        undecided: Fields with the value None if the option is not given. The help still shows the
            dataclass's default.
        defaults: Defaults that replace the dataclass's.
    """
    hints = get_type_hints(cls)
    for item in fields(cls):
        if only and item.name not in only:
            continue
        default = defaults.get(item.name, item.default)
        told = str(item.metadata.get("help", "")).replace("%", "%%")
        if item.name in undecided and default not in (None, MISSING, True, False):
            told += f" Default: {default}."
        options: dict[str, Any] = {"dest": item.name, "help": told}
        if default is not MISSING:
            options["default"] = None if item.name in undecided else default
        if hints[item.name] is bool:
            options["action"] = _Switch
        else:
            options |= {
                "type": _plain_type(hints[item.name]),
                "metavar": _metavar(hints[item.name], item.name),
            }
            if get_origin(hints[item.name]) is list:
                options |= {"type": get_args(hints[item.name])[0], "nargs": "+"}
        parser.add_argument(f"--{item.name.replace('_', '-')}", **options)


def take_fields(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The given options that are fields of a dataclass."""
    return {item.name: options[item.name] for item in fields(cls) if item.name in options}


def _plain_type(hint: Any) -> type:
    for plain in (int, float, Path):
        if hint in (plain, plain | None):
            return plain
    return str


def _metavar(hint: Any, name: str) -> str:
    return "N" if _plain_type(hint) in (int, float) else name.replace("_", "-").upper()
