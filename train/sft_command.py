"""Teach a policy a teacher's or saved episodes: `longvideo-env sft` is `train/sft.py`."""

from __future__ import annotations

from collections.abc import Sequence

from train.options.sft_options import SFT
from train.options.start import check_start


def main(argv: Sequence[str]) -> int:
    """Check first, import torch and TRL then, and train. Returns the exit code."""
    check_start(argv, SFT)
    from train.options.script import run_script
    from train.sft import main as teach

    run_script(SFT.name, teach, argv)
    return 0
