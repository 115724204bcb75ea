"""Train a policy with GRPO: `longvideo-env train` is `train/grpo.py` in one process."""

from __future__ import annotations

from collections.abc import Sequence

from train.options.grpo_options import GRPO
from train.options.start import check_start


def main(argv: Sequence[str]) -> int:
    """Check the options, then import torch and TRL and train. Returns the exit code."""
    check_start(argv, GRPO)
    from train.grpo import main as train
    from train.options.script import run_script

    run_script(GRPO.name, train, argv)
    return 0
