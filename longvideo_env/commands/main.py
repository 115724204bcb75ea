"""The command `longvideo-env`: one door to the library's commands.

    longvideo-env --help
    longvideo-env --version
    longvideo-env mini --out runs/mini --videos 40

With the package argcomplete, shells complete commands and options:
`eval "$(register-python-argcomplete longvideo-env)"`.

Commands are found through the entry points `longvideo_env.commands`, so that the core imports none
of them and other packages can add theirs. An entry point names a function that takes the command
line after the command's name and returns the exit code, or None for 0. The first line of its
module's docstring is what `--help` says of it.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from pathlib import Path

USAGE = (
    "usage: longvideo-env COMMAND [OPTIONS]      longvideo-env COMMAND --help      "
    "longvideo-env --version"
)
EXIT_BAD_INPUT = 2
GROUPS = {
    "play and evaluate": "evaluate play ask chat compare power score report rescore merge "
    "submission",
    "train": "train sft plot audit merge-adapter prompt-set tiny-model",
    "paper": "table tables ablations robustness baseline recall plots card bundle verify "
    "calibrate-judge",
    "other systems": "serve mcp export",
    "data and agents": "doctor prepare ingest describe mini questions show leaks prompts recording "
    "build-grounding",
}
"""The order in which `--help` shows commands; those of other packages come last."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    commands = {point.name: point for point in entry_points(group="longvideo_env.commands")}
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could follow
        return _complete(commands)
    if args[:1] == ["--version"]:
        sys.stdout.write(f"longvideo-env {version('longvideo-env')}\n")
        return 0
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(_help(commands))
        return 0 if args else EXIT_BAD_INPUT
    if args[0] not in commands:
        known = ", ".join(sorted(commands))
        sys.stderr.write(f"longvideo-env: unknown command {args[0]!r}; expected one of: {known}.\n")
        return EXIT_BAD_INPUT
    return commands[args[0]].load()(args[1:]) or 0


def _complete(commands: dict[str, EntryPoint]) -> int:
    import argcomplete

    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    words = line.split()
    if len(words) > 1 and words[1] in commands and line != f"{words[0]} {words[1]}":
        os.environ["_ARGCOMPLETE"] = "2"  # the program's name has two words
        return commands[words[1]].load()([]) or 0  # its parser answers
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("command", choices=sorted(commands))
    parser.add_argument("--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    argcomplete.autocomplete(parser)
    return 0


def _help(commands: dict[str, EntryPoint]) -> str:
    groups = {title: names.split() for title, names in GROUPS.items()}
    grouped = {name for names in groups.values() for name in names}
    groups["others"] = sorted(commands.keys() - grouped)
    width = max(map(len, commands), default=0)
    lines = [USAGE]
    for title, names in groups.items():
        there = [name for name in names if name in commands]
        lines += ["", f"{title}:"] if there else []
        lines += [f"  {name:<{width}}  {_about(commands[name])}" for name in there]
    return "\n".join([*lines, ""])


def _about(point: EntryPoint) -> str:
    """The first line of a module's docstring, read from its source: importing may be slow."""
    spec = find_spec(point.module)
    if spec is None or spec.origin is None:
        return ""
    doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
