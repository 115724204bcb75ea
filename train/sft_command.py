"""Teach a policy a teacher's or saved episodes: `longvideo-env sft` is `train/sft.py`."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Import torch and TRL, which takes seconds, and train. Returns the exit code."""
    from train.options.script import run_script
    from train.sft import main as teach

    run_script("sft.py", teach, argv)
    return 0
