"""The command `longvideo-env`: it starts all commands of the library.

    longvideo-env --help
    longvideo-env --version
    longvideo-env mini --out runs/mini --videos 40

Shells complete commands and options: `eval "$(longvideo-env completion bash)"`.

Commands are found through the entry points `longvideo_env.commands`. So the core imports none of
them, and other packages can add theirs. An entry point names a function. It takes the arguments
after the command's name and returns the exit code, or None for 0. `--help` shows the first line of
its module's docstring.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from pathlib import Path

from longvideo_env.commands.completion import ASKED, say, typed
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_USAGE, exit_code_line

USAGE = "usage: longvideo-env COMMAND [OPTIONS]"
MORE = "longvideo-env COMMAND --help shows its options; longvideo-env --version prints the version."
GROUPS = {
    "play and evaluate": "evaluate play ask chat compare power score report rescore merge "
    "submission",
    "train": "train sft plot audit merge-adapter prompt-set tiny-model",
    "paper": "table tables ablations compare-games robustness baseline recall plots card bundle "
    "verify calibrate-judge",
    "other systems": "serve mcp export",
    "data and agents": "doctor prepare ingest describe mini questions show leaks prompts recording "
    "build-grounding completion",
}
"""The order of the commands in `--help`. Commands of other packages come last."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    commands = {point.name: point for point in entry_points(group="longvideo_env.commands")}
    if ASKED in os.environ:  # a shell asks for candidates
        return _complete(commands)
    if args[:1] == ["--version"]:
        sys.stdout.write(f"longvideo-env {version('longvideo-env')}\n")
        return EXIT_DONE
    if not args or args[0] in ("-h", "--help"):
        (sys.stdout if args else sys.stderr).write(_help(commands))
        return EXIT_DONE if args else EXIT_USAGE
    if args[0] not in commands:
        close = get_close_matches(args[0], commands, n=1)
        hint = f"Did you mean {close[0]}?" if close else "longvideo-env --help lists them."
        sys.stderr.write(f"{USAGE}\nlongvideo-env: unknown command {args[0]!r}. {hint}\n")
        return EXIT_USAGE
    return commands[args[0]].load()(args[1:]) or EXIT_DONE


def _complete(commands: dict[str, EntryPoint]) -> int:
    name, *others = typed()
    if others and name in commands:
        return commands[name].load()([]) or EXIT_DONE  # its parser answers
    if not others:
        say([*commands, "--help", "--version"])
    return EXIT_DONE


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
    return "\n".join([*lines, "", MORE, exit_code_line("some episodes failed"), ""])


def _about(point: EntryPoint) -> str:
    """The first line of a module's docstring. It is read from the source; imports may be slow."""
    spec = find_spec(point.module)
    if spec is None or spec.origin is None:
        return ""
    doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
