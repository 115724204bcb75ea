"""Print a shell's completion script for commands, options and their values.

    eval "$(longvideo-env completion bash)"        # or zsh, in ~/.bashrc or ~/.zshrc
    longvideo-env completion fish > ~/.config/fish/completions/longvideo-env.fish

The script asks the command itself for candidates, so they always fit the installed version. If
there are none, the shell completes file names.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from longvideo_env.commands.help_text import is_switch

ASKED = "_LONGVIDEO_COMPLETE"
"""The environment variable with the words typed so far, one per line.

The last word may be unfinished or empty.
"""

_BASH = """_longvideo_env() {
    local IFS=$'\\n'
    COMPREPLY=($(%(asked)s="${COMP_WORDS[*]:1:COMP_CWORD}" longvideo-env 2>/dev/null))
}
complete -o default -F _longvideo_env longvideo-env
"""
_ZSH = """autoload -Uz compinit bashcompinit && compinit && bashcompinit
"""
_FISH = """function __longvideo_env
    set -l words (commandline -opc) (commandline -ct)
    env %(asked)s=(string join \\n -- $words[2..-1] | string collect) longvideo-env 2>/dev/null
end
complete -c longvideo-env -a '(__longvideo_env)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH + _BASH, "fish": _FISH}


def typed() -> list[str]:
    """The words on the shell's line. The last one is to be completed."""
    return os.environ[ASKED].split("\n")


def say(candidates: Iterable[str]) -> None:
    """Print the candidates that fit the unfinished word."""
    start = typed()[-1]
    found = sorted({word for word in candidates if word.startswith(start)})
    sys.stdout.write("".join(f"{word}\n" for word in found))


def answer(parser: argparse.ArgumentParser) -> NoReturn:
    """Print the candidates for a command's line, and end the process."""
    say(_candidates(parser, typed()[1:]))
    sys.exit(0)


def _candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    options: dict[str, argparse.Action] = {}
    for name, action in parser._option_string_actions.items():
        options.setdefault(name.replace("_", "-"), action)
    before, last = words[:-1], words[-1] if words else ""
    if last.startswith("-"):
        return [name for name in options if name.startswith("--")]
    named = options.get(before[-1].replace("_", "-")) if before else None
    if named is not None and not is_switch(named):
        return _values(named)
    values = []
    for action in parser._actions:
        if not action.option_strings:
            values += _values(action)
    return values


def _values(action: argparse.Action) -> list[str]:
    choices: Any = action.choices or ()
    return [str(choice) for choice in choices]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a script. Returns the exit code."""
    from longvideo_env.commands.options import OptionParser  # it imports this module

    parser = OptionParser("longvideo-env completion", __doc__)
    parser.add_argument("shell", choices=sorted(SCRIPTS), help="The shell.")
    options = parser.parse_args(arguments)
    sys.stdout.write(SCRIPTS[options.shell].replace("%(asked)s", ASKED))
    return 0
