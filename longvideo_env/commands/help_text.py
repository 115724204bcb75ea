"""The format of `--help`: one usage line, dashes in names, one way to show defaults.

An option's help says what the option does. The formatter adds the default: `(default: VALUE)`. If
the default is not a plain value, the help text itself ends in `Default: WORDS.`.
"""

from __future__ import annotations

import argparse
import copy
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

WIDTH = 100
_BRIEF = 70
_OPTION = re.compile(r"(?<![\w-])--\w[\w-]*")
_DEFAULT = re.compile(r"(?:\.?\s*\bDefault: (.+?)\.?$)|(?:\s*\(default: (.+?)\)\.?$)", re.DOTALL)


def with_dashes(name: str) -> str:
    """An option's name with dashes: `--max_turns` becomes `--max-turns`."""
    return name.replace("_", "-") if name.startswith("--") else name


def is_switch(action: argparse.Action) -> bool:
    """Whether an option is on or off."""
    # transformers makes the options of TRL's dataclasses. Its switches have this type.
    made_by_transformers = getattr(action.type, "__name__", "") == "string_to_bool"
    made_here = getattr(action, "on_or_off", False)
    boolean = isinstance(action.default, bool) or action.default == argparse.SUPPRESS
    other = action.nargs == "?" and action.const is True and boolean
    return made_by_transformers or made_here or other


def default_of(action: argparse.Action) -> str:
    """The default of an option as text. Empty if there is none to show."""
    value: Any = action.default
    if isinstance(value, Enum):
        value = value.value
    if value is True and is_switch(action):
        return "on"
    if value in (None, argparse.SUPPRESS, "") or isinstance(value, (bool, dict)):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def help_and_default(action: argparse.Action) -> tuple[str, str]:
    """An option's help without its default, and the default."""
    text = str(action.help or "") % {**vars(action), "prog": ""}
    text = _OPTION.sub(lambda name: with_dashes(name[0]), " ".join(text.split()))
    found = _DEFAULT.search(text)
    default = (found[1] or found[2]) if found else default_of(action)
    text = _DEFAULT.sub("", text).strip().removesuffix(".")
    return text[:1].upper() + text[1:], default


def full_help(action: argparse.Action) -> str:
    """An option's help with its default."""
    text, default = help_and_default(action)
    return f"{text} (default: {default})" if default else text


def brief_help(action: argparse.Action) -> str:
    """The first sentence of an option's help, cut to about two lines, with its default."""
    text, default = help_and_default(action)
    text = re.split(r"\.(?:\s|$)", text, maxsplit=1)[0].removesuffix(".")
    if len(text) > _BRIEF:
        cut = max(text.rfind(mark, 0, _BRIEF) for mark in (",", ";", ":", " ("))
        text = text[: cut if cut > _BRIEF // 2 else text.rfind(" ", 0, _BRIEF)]
        if text.count("(") > text.count(")"):
            text = text[: text.rfind("(")].rstrip(" ,")
        text += " ..."
    return f"{text} (default: {default})" if default else text


def shown_copy(action: argparse.Action, help_text: str) -> argparse.Action:
    """A copy of an option for the formatter."""
    shown = copy.copy(action)
    if isinstance(action, argparse._SubParsersAction):
        return shown
    shown.help = help_text.replace("%", "%%")
    shown.option_strings = list(dict.fromkeys(map(with_dashes, action.option_strings)))
    if is_switch(action):
        shown.nargs = 0
        names = shown.option_strings
        on = action.default is True and not names[-1].startswith("--no-")
        shown.option_strings = [*names, f"--no-{names[-1][2:]}"] if on else names
    return shown


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the text's own line breaks, and shows options in two columns."""

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog, max_help_position=30, **more)

    def _get_default_metavar_for_positional(self, action: argparse.Action) -> str:
        return action.dest.replace("_", "-").upper()

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        if action.type in (int, float):
            return "N"
        return action.dest.replace("_", "-").upper()

    def sections(
        self,
        groups: Iterable[argparse._ArgumentGroup],
        shown: Sequence[argparse.Action] | None = None,
    ) -> str:
        """The options of each group, all or some of them.

        Args:
            groups: The parser's groups.
            shown: The options to show in brief. None shows all options in full.
        """
        for group in groups:
            told = [
                shown_copy(action, full_help(action) if shown is None else brief_help(action))
                for action in group._group_actions
                if (shown is None or action in shown) and not _is_plain_help(action)
            ]
            told = [action for action in told if action.help != argparse.SUPPRESS]
            if told:
                title = "arguments" if group.title == "positional arguments" else group.title
                self.start_section(title)
                self.add_text(group.description if shown is None else None)
                self.add_arguments(told)
                self.end_section()
        return "\n" + self.format_help()


def _is_plain_help(action: argparse.Action) -> bool:
    return action.dest == "help" or action.help == argparse.SUPPRESS


def usage_line(parser: argparse.ArgumentParser) -> str:
    """A command's usage in one line: the required arguments, then `[OPTIONS]`."""
    return " ".join(["usage:", parser.prog, *_needed(parser), "[OPTIONS]"]) + "\n"


def _needed(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = HelpFormatter(parser.prog)
    for action in parser._actions:
        if not action.option_strings:
            if isinstance(action, argparse._SubParsersAction):
                yield f"{action.metavar or 'COMMAND'}"
            else:
                metavar = formatter._get_default_metavar_for_positional(action)
                yield formatter._format_args(action, metavar)
    for action in parser._actions:
        if action.option_strings and action.required:
            metavar = formatter._get_default_metavar_for_optional(action)
            name = with_dashes(action.option_strings[-1])
            yield f"{name} {formatter._format_args(action, metavar)}"


def first_commands(examples: str) -> str:
    """The first three commands of a block of examples."""
    commands = re.findall(r"(?:.*\\\n)*.*\n", examples)
    return "".join(commands[:3])


def wrapped(text: str) -> str:
    """A paragraph, wrapped to the width of a help text."""
    return textwrap.fill(text, WIDTH) + "\n"
