"""Messages of a training run: a sample reply at the start, and warnings with a fix."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from longvideo_env.records.trajectory import Trajectory

CUT = ("length", "context")
"""Finish reasons of a reply that was cut."""

UNFINISHED = ("out_of_turns", "out_of_context")
"""Statuses of an episode that ended without an answer."""

EQUAL = 1e-6
"""Rewards that differ by less are equal."""

LOGP_GAP = "sampling/sampling_logp_difference/mean"
"""TRL's name for the mean difference of log-probs between sampling engine and trainer."""

MOST_GAP = 0.1
"""In bfloat16 a few hundredths are usual. A gap above this means other weights."""

MOST_SHOWN = 400
"""Most characters of a sample reply."""

_SPOKEN = frozenset(10**i for i in range(9))
"""A problem is reported at its 1st, 10th, 100th step and so on."""


def sample_reply(trajectories: Sequence[Trajectory]) -> str:
    """The first reply that was sampled, in one line."""
    for trajectory in trajectories:
        for segment in trajectory.segments:
            if segment.sampled:
                return " ".join(segment.text.split())[:MOST_SHOWN]
    return "(no reply)"


def warning(trajectories: Sequence[Trajectory]) -> str | None:
    """The problem of a step's episodes with its fix. None if there is no problem."""
    played = [t for t in trajectories if t.status != "failed"]
    turns = [turn for t in played for turn in t.turns]
    if not turns:
        return None
    if all(turn.finish in CUT for turn in turns):
        return "every reply was cut at its limit of tokens. Fix: raise --max-turn-tokens."
    if all(turn.malformed is not None or turn.finish in CUT for turn in turns):
        return (
            "every reply was malformed or cut, so nothing is rewarded. Fix: raise "
            "--max-turn-tokens, or teach the tags first with train/sft.py."
        )
    if all(t.status in UNFINISHED for t in played):
        return (
            "no episode reached an answer: all ran out of turns or of context. Fix: raise "
            "--max-turns or --max-context-tokens, or teach the game first with train/sft.py."
        )
    rewards = [t.reward for t in played if t.reward is not None]
    if len(rewards) > 1 and max(rewards) - min(rewards) < EQUAL:
        return (
            "every episode got the same reward, so this step teaches nothing. Fix: if the reward "
            "is low, teach the game first with train/sft.py. If it is high, give harder questions."
        )
    return None


def gap_warning(logs: Mapping[str, Any]) -> str | None:
    """The warning if the engine samples with other weights than the trainer's, or None."""
    gap = logs.get(LOGP_GAP)
    if gap is None or gap <= MOST_GAP:
        return None
    return (
        "log-probs of the engine and of the trainer are far apart: replies were sampled from other "
        f"weights ({LOGP_GAP} above {MOST_GAP}). Fix: run a server with --logprobs-mode "
        "processed_logprobs and a weight-transfer config (docs/training.md). Give engine and "
        "trainer the same dtype."
    )


class Health:
    """Writes to standard error at the first step and at problems.

    A problem is reported at its first step, and again at its 10th, 100th and so on.
    """

    def __init__(self) -> None:
        self._started = False
        self._seen: Counter[str] = Counter()

    def check(self, trajectories: Sequence[Trajectory], step: int) -> None:
        """Check a step's episodes."""
        if self._says(warning(trajectories), step) or not self._started:
            sys.stderr.write(f"\nstep {step}, a sample reply: {sample_reply(trajectories)}\n")
        self._started = True

    def check_log(self, logs: Mapping[str, Any], step: int) -> None:
        """Check a step's log record."""
        self._says(gap_warning(logs), step)

    def _says(self, problem: str | None, step: int) -> bool:
        if problem is None:
            return False
        self._seen[problem] += 1
        n = self._seen[problem]
        if n in _SPOKEN:
            so_far = f" This is step {n} of this kind." if n > 1 else ""
            sys.stderr.write(f"\nwarning: step {step}: {problem}{so_far}\n")
        return n in _SPOKEN
