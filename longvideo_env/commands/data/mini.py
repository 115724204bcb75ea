"""Write the dataset `mini`: small generated videos, in the layout of LongTVQA+.

    longvideo-env mini --out runs/mini --videos 40 --seed 3 --frames

`--dataset runs/mini` opens the folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.datasets.mini.drawing import FRAME_STEP
from longvideo_env.datasets.mini.generator import DIFFICULTY, SPLIT_VIDEOS, write_mini


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser(
        prog="longvideo-env mini",
        description=__doc__,
    )
    parser.add_argument("--out", required=True, help="a new folder")
    parser.add_argument(
        "--videos",
        type=int,
        default=SPLIT_VIDEOS["train"],
        help="videos of the train split; val and test get a quarter of this each",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument(
        "--difficulty", type=float, default=DIFFICULTY, help="how hard the questions are, 0 to 1"
    )
    parser.add_argument("--frames", action="store_true", help="draw frames too (needs Pillow)")
    parser.add_argument(
        "--frame-step",
        type=int,
        default=FRAME_STEP,
        help="draw every N-th of a clip's 180 frames",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    options = build_parser().parse_args(arguments)

    def write() -> None:
        folder = write_mini(
            options.out,
            videos=options.videos,
            seed=options.seed,
            difficulty=options.difficulty,
            frame_step=options.frame_step if options.frames else None,
        )
        sys.stdout.write(f"{folder}\n")

    return run_command("mini", write)
