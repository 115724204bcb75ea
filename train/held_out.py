"""Evaluation during training: episodes of held-out questions, played with the current weights.

The processes divide the questions, with every backend. Seeds derive from the evaluation's seed and
the question only, as in `eval/run_policy.py`. So a checkpoint gives the same figures there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from accelerate.utils import gather_object

from eval.metrics.summary import accuracy_interval, summarize
from longvideo_env.drivers.rollout import RolloutEngine
from longvideo_env.errors import DataError
from longvideo_env.records.trajectory import Trajectory
from train.rollouts.backends import Backend


@dataclass(frozen=True)
class HeldOut:
    """Plays held-out questions.

    Attributes:
        engine: Plays episodes; its policy is the backend's.
        backend: Generates with the trainer's weights.
    """

    engine: RolloutEngine
    backend: Backend

    def play(self, trainer: Any) -> dict[str, float]:
        """Figures of one evaluation. A collective: all processes must call it.

        Returns:
            `accuracy` with the ends of its 95% interval (`accuracy_low`, `accuracy_high`),
            `grounding_accuracy`, `mean_turns`, `malformed_rate`, `mean_reward`, `n_failed`, `n`
            and `seconds`. Figures without a value are left out.

        Raises:
            DataError: Every episode failed.
        """
        start = time.perf_counter()
        accelerator = trainer.accelerator
        tasks = self.engine.dataset.tasks[accelerator.process_index :: accelerator.num_processes]
        if trainer.use_vllm and trainer.state.global_step != trainer._last_loaded_step:
            trainer.vllm_generation.sync_weights()
            trainer._last_loaded_step = trainer.state.global_step
        with self.backend.open(trainer) as player:
            mine = player.play([partial(self.engine.play, task) for task in tasks])
        # Tokens are not gathered: the figures do not need them.
        light = [replace(played, segments=()) for played in mine]
        everywhere: list[Trajectory] = gather_object(light)
        summary = summarize(everywhere, len(self.engine.dataset))
        if summary["n_failed"] == len(everywhere):
            reasons = ", ".join(summary["errors"])
            raise DataError(f"every episode of the evaluation failed: {reasons:.300}")
        names = ("accuracy", "grounding_accuracy", "mean_turns", "malformed_rate", "mean_reward")
        figures = {name: summary[name] for name in names}
        low, high = accuracy_interval(summary) or (None, None)
        figures |= {"accuracy_low": low, "accuracy_high": high}
        figures |= {"n_failed": summary["n_failed"], "n": summary["n_scored"]}
        figures["seconds"] = time.perf_counter() - start
        return {name: float(value) for name, value in figures.items() if value is not None}
