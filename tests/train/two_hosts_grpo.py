"""`train/grpo.py` with a second machine that is lost at a step. See `test_two_hosts.py`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from train import grpo
from train.options.script import run_script
from train.rollouts.rollout_func import Rollouts

PLAY = Rollouts.__call__


def play(self: Rollouts, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
    lost = str(trainer.state.global_step) == os.environ.get("DIES_AT")
    if lost and trainer.accelerator.process_index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return PLAY(self, prompts, trainer)


Rollouts.__call__ = play  # type: ignore[method-assign]

if __name__ == "__main__":
    run_script("train", grpo.main)
