"""Write a run's episodes in the format of another tool.

    longvideo-env export runs/gpt/openai-gpt-4o --to trl --out right.jsonl
    longvideo-env export runs/gpt/openai-gpt-4o --to lmms-eval --out samples.jsonl

`sharegpt`, `openai` and `trl` write the episodes with a right answer as training conversations with
tool calls. Failed episodes and episodes with a malformed reply are left out and counted.
`lmms-eval` writes every episode as one line of its samples file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.errors import InputError, SpecError
from longvideo_env.integrations.exports import FORMS, LMMS_EVAL, conversations, lmms_samples
from longvideo_env.records.files import write_text


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser("longvideo-env export", __doc__, findings="nothing was written")
    add = parser.add_argument
    add("run", type=Path, help="the run's folder, with episodes.jsonl")
    add("--to", choices=[*FORMS, LMMS_EVAL], required=True, help="the output format")
    add("--out", type=Path, help="the file to write (default: RUN/export-FORMAT.jsonl)")
    add("--min-reward", type=float, help="write the episodes with at least this reward instead")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("export", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    if args.to == LMMS_EVAL and args.min_reward is not None:
        raise SpecError("lmms-eval writes every episode. Fix: leave --min-reward out.")
    if not (args.run / "episodes.jsonl").is_file():
        raise InputError(f"{args.run} is not a run. Fix: give the folder with episodes.jsonl.")
    out = args.out or args.run / f"export-{args.to}.jsonl"
    left: Counter[str] = Counter()
    if args.to == LMMS_EVAL:
        rows = lmms_samples(args.run)
    else:
        rows, left = conversations(args.run, args.to, min_reward=args.min_reward)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(out, "".join(f"{line}\n" for line in lines))
    left.pop("written", None)
    sys.stdout.write(f"{out}: {len(lines):,} rows, {sum(left.values()):,} left out\n")
    for reason, n in left.most_common():
        sys.stdout.write(f"  {n:,}: {reason}\n")
    return EXIT_DONE if lines else EXIT_FINDINGS
