"""What a training says of its own replies: one sample at the start, and why no reward comes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from longvideo_env.records.trajectory import Trajectory

CUT = ("length", "context")
"""Why a reply ended that was not finished."""

MOST_SHOWN = 400
"""Characters of a sample reply."""

_SPOKEN = frozenset(10**i for i in range(9))
"""At which of a problem's steps it is said."""


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
    """Speaks on standard error, at the first step and where something is wrong.

    A problem is said at its first step, and again at its 10th, 100th and so on.
    """

    def __init__(self) -> None:
        self._started = False
        self._seen: Counter[str] = Counter()

    def check(self, trajectories: Sequence[Trajectory], step: int) -> None:
        """Look at a step's episodes."""
        problem = warning(trajectories)
        speaks = not self._started
        if problem:
            self._seen[problem] += 1
            n = self._seen[problem]
            if n in _SPOKEN:
                so_far = f" This is step {n} of this kind." if n > 1 else ""
                sys.stderr.write(f"\nwarning: step {step}: {problem}{so_far}\n")
                speaks = True
        if speaks:
            sys.stderr.write(f"\nstep {step}, a sample reply: {sample_reply(trajectories)}\n")
        self._started = True
