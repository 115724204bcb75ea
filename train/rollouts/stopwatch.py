"""Where a training step's time goes, and how fast it samples."""

from __future__ import annotations

import time
from collections.abc import Sequence

from longvideo_env.records.trajectory import Trajectory


class Stopwatch:
    """Takes the time from one batch of rollouts to the next.

    A batch's rollouts come first, then what is done with them. So the figures of a batch hold the
    training of the one before, and those of the first hold none.

    Attributes:
        sync_s: Seconds in which weights were sent to vLLM since the last batch; added to from
            outside.
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
            busy_s: Seconds in which replies were being generated.
            trajectories: All that were played.

        Returns:
            `time/rollouts_s`, of which `time/model_s` generated; `time/tools_s`, the mean over
            episodes of the seconds spent waiting for tools; `time/train_s` and `time/sync_s` since
            the batch before; `time/tokens_per_s`, sampled, over the rollouts' time.
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
