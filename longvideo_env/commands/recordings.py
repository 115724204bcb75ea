"""Export, import and count recorded tool calls.

    longvideo-env recording export runs/api/recording.sqlite --out calls.jsonl
    longvideo-env recording import runs/mine/recording.sqlite calls.jsonl
    longvideo-env recording show runs/api/recording.sqlite

`--recording record` and `--recording reuse` write a recording, one SQLite file. Its export is JSON
Lines, to read or to publish with a result. Each line is one call with all its inputs, and the
order of the lines is always the same. An import keeps the calls that the recording has already.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import rich.table
from rich.markup import escape

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.errors import RecordingError
from longvideo_env.tools.recording import export_calls, import_calls


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        prog="longvideo-env recording",
        description=__doc__,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    export = commands.add_parser("export", help="Write the calls as JSON Lines.")
    export.add_argument("recording", type=Path, metavar="FILE", help="The recording.")
    export.add_argument("--out", type=Path, metavar="FILE", help="Default: standard output.")
    taken = commands.add_parser("import", help="Add calls that were exported.")
    taken.add_argument("recording", type=Path, metavar="FILE", help="The recording, new or old.")
    taken.add_argument("calls", type=Path, metavar="JSONL", help="A file from `export`.")
    show = commands.add_parser("show", help="Count the calls by agent and model.", tables=True)
    show.add_argument("recording", type=Path, metavar="FILE", help="The recording.")
    return parser


def _export(recording: Path, out: Path | None) -> None:
    lines = export_calls(recording)
    if out is None:
        sys.stdout.writelines(lines)
        return
    partial = out.with_name(out.name + ".partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "w", encoding="utf-8") as file:
        file.writelines(lines)
    os.replace(partial, out)


def _import(recording: Path, calls: Path) -> None:
    try:
        with open(calls, encoding="utf-8") as lines:
            n = import_calls(recording, iter(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{calls} cannot be read: {error}") from error
    sys.stdout.write(f"{n:,} new calls in {recording}\n")


def _show(recording: Path) -> None:
    counts: Counter[tuple[str, ...]] = Counter()
    for line in export_calls(recording):
        request = json.loads(line)["request"]
        keys = [str(request.get(key) or "-") for key in ("kind", "agent", "model")]
        counts[(*keys, "yes" if request.get("leaky") else "-")] += 1
    table = rich.table.Table("kind", "agent", "model", "leaky", title=f"Calls in {recording}")
    table.add_column("calls", justify="right")
    for row, n in sorted(counts.items()):
        table.add_row(*map(escape, row), str(n))
    console = output_console()
    console.print(table)
    console.print(f"{counts.total():,} calls", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    options = build_parser().parse_args(argv)
    return run_command("recording", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.command == "export":
        _export(options.recording, options.out)
    elif options.command == "import":
        _import(options.recording, options.calls)
    else:
        _show(options.recording)


if __name__ == "__main__":
    sys.exit(main())
