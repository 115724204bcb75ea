"""Print the environment's words as a template file that you can edit.

    longvideo-env prompts > my_prompts.jinja
    longvideo-env prompts --protocol functions     # the blocks that differ there
    longvideo-env prompts worked-example
    longvideo-env prompts judge                    # what --judge is asked
    longvideo-env prompts --check my_prompts.jinja
    longvideo-env evaluate --policy random --prompts my_prompts.jinja

Your file may have only some of the blocks. The others keep their default. Comments name the fields
of each block.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.config import PROTOCOLS
from longvideo_env.game.words.templates import (
    LAID_OVER,
    SHIPPED,
    default_text,
    load_words,
    shipped_text,
)


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(prog="longvideo-env prompts", description=__doc__)
    parser.add_argument(
        "name", nargs="?", choices=[*SHIPPED, *LAID_OVER],
        help="a template to print instead of the default words",
    )  # fmt: skip
    parser.add_argument("--check", metavar="FILE", help="only check a file and print its hash")
    help_ = "the protocol of the words"
    parser.add_argument("--protocol", choices=PROTOCOLS, default="tags", help=help_)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    options = build_parser().parse_args(arguments)

    def work() -> None:
        if options.check is None:
            shipped = {**SHIPPED, **LAID_OVER}.get(options.name)
            sys.stdout.write(shipped_text(shipped) if shipped else default_text(options.protocol))
            return
        words = load_words(options.check, options.protocol)
        sys.stdout.write(f"{words.source}: {len(words.blocks)} blocks, hash {words.digest}\n")

    return run_command("prompts", work)
