"""What a training says of its own replies: one sample at the start, and why no reward comes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from longvideo_env.records.trajectory import Trajectory

CUT = ("length", "context")
"""Why a reply ended that was not finished."""

MOST_SHOWN = 400
"""Characters of a sample reply."""


def sample_reply(trajectories: Sequence[Trajectory]) -> str:
    """The first reply that was sampled, in one line."""
    for trajectory in trajectories:
        for segment in trajectory.segments:
            if segment.sampled:
                return " ".join(segment.text.split())[:MOST_SHOWN]
    return "(no reply)"


def warning(trajectories: Sequence[Trajectory]) -> str | None:
    """What to do where every reply was cut or malformed; None where one was not."""
    turns = [turn for t in trajectories if t.status != "failed" for turn in t.turns]
    if not turns:
        return None
    if all(turn.finish in CUT for turn in turns):
        return "every reply was cut at its limit of tokens. Fix: raise --max_turn_tokens."
    if all(turn.malformed is not None or turn.finish in CUT for turn in turns):
        return (
            "every reply was malformed or cut, so nothing is rewarded. Fix: raise "
            "--max_turn_tokens, or teach the tags first with train/sft.py."
        )
    return None


class Health:
    """Speaks on standard error, at the first step and where something is wrong."""

    def __init__(self) -> None:
        self._spoke = False

    def check(self, trajectories: Sequence[Trajectory], step: int) -> None:
        """Look at a step's episodes."""
        problem = warning(trajectories)
        if problem:
            sys.stderr.write(f"\nwarning: step {step}: {problem}\n")
        if problem or not self._spoke:
            sys.stderr.write(f"\nstep {step}, a sample reply: {sample_reply(trajectories)}\n")
        self._spoke = True
