"""Check a bundle: every figure from its episodes, every hash, every answer and reward.

    longvideo-env verify paper.zip
    longvideo-env verify paper.zip --dataset DIR --replay --tables tables/

It needs no model and no network. It computes the figures from the episodes, the answers from the
policy's replies, the rewards from the dataset's gold answers, and the hashes from the data, words
and weights on this machine. With --replay the episodes are replayed from the recording and must
come out byte for byte. Differences are named, question by question. Everything that could not be
checked is listed with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from eval.bundle.bundle_checks import check_bundle, print_findings
from eval.bundle.contents import TABLE_MD, TABLE_TEX, read_bundle
from eval.bundle.replaying import replay_bundle
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import output_console
from longvideo_env.records.files import write_json


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser("longvideo-env verify", __doc__, findings="something differs")
    add = parser.add_argument
    add("bundle", type=Path, metavar="FILE", help="A file that `longvideo-env bundle` wrote.")
    add("--dataset", metavar="DIR", help="Path of the runs' dataset on this machine.")
    add("--replay", action="store_true", help="Replay the episodes from the recording.")
    add("--tables", type=Path, metavar="DIR", help="Folder for table.md and table.tex.")
    add("--json", type=Path, metavar="FILE", help="Write all findings into this file.")
    return parser


def _run(argv: Sequence[str] | None) -> int:
    options = build_parser().parse_args(argv)
    start = time.perf_counter()
    bundle = read_bundle(options.bundle)
    findings = check_bundle(bundle, dataset=options.dataset)
    if options.replay and not any("cannot be read" in line for line in findings.differs):
        replay_bundle(bundle, findings, dataset=options.dataset)
    console = output_console()
    print_findings(findings, console)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, asdict(findings))
    if options.tables is not None:
        options.tables.mkdir(parents=True, exist_ok=True)
        for name in (TABLE_MD, TABLE_TEX):
            if name in bundle.files:
                (options.tables / name).write_bytes(bundle.files[name])
    verdict = "differs" if findings.differs else "verified"
    for line in (
        f"digest: {bundle.manifest.get('digest')}",
        f"{options.bundle}: {verdict}: {len(findings.checked)} checks hold, "
        f"{len(findings.differs)} do not, {len(findings.unchecked)} could not be made "
        f"({time.perf_counter() - start:.1f} s)",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_FINDINGS if findings.differs else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("verify", lambda: _run(argv))
