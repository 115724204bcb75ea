"""Measure the parts of a training step's time, and its sampling speed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from longvideo_env.records.trajectory import Trajectory


class Stopwatch:
    """Measures the time from one batch of rollouts to the next.

    A batch is first played, then trained on. So its figures have the training time of the batch
    before. The first batch's figures have no training time.

    Attributes:
        sync_s: Seconds spent sending weights to vLLM since the last batch. The trainer adds to it.
    """

    def __init__(self) -> None:
        self.sync_s = 0.0
        self._ended: float | None = None

    def lap(
        self, start: float, busy_s: float, trajectories: Sequence[Trajectory]
    ) -> dict[str, float]:
        """The figures of a batch whose rollouts end now.

        Args:
            start: When they began, in `time.perf_counter()`.
            busy_s: Seconds of generation.
            trajectories: All episodes played.

        Returns:
            `time/rollouts_s`; `time/model_s`, its part of generation; `time/tools_s`, the mean
            seconds that an episode waited for tools; `time/train_s` and `time/sync_s` since the
            batch before; `time/tokens_per_s`, sampled tokens per second of rollouts.
        """
        now = time.perf_counter()
        tokens = sum(len(s.token_ids or ()) for t in trajectories for s in t.segments if s.sampled)
        tools_s = sum(t.timings.tools_s for t in trajectories)
        figures = {
            "time/rollouts_s": now - start,
            "time/model_s": busy_s,
            "time/tools_s": tools_s / max(len(trajectories), 1),
            "time/sync_s": self.sync_s,
            "time/tokens_per_s": tokens / (now - start),
        }
        if self._ended is not None:
            figures["time/train_s"] = max(0.0, start - self._ended - self.sync_s)
        self._ended, self.sync_s = now, 0.0
        return figures
