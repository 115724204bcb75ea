"""Train a policy on a teacher's or saved episodes: `longvideo-env sft` is `train/sft.py`."""

from __future__ import annotations

from collections.abc import Sequence

from train.options.sft_options import SFT
from train.options.start import check_start


def main(argv: Sequence[str]) -> int:
    """Check the options, then import torch and TRL and train. Returns the exit code."""
    check_start(argv, SFT)
    from train.options.script import run_script
    from train.sft import main as teach

    run_script(SFT.name, teach, argv)
    return 0
