"""The parts of a run's episodes that its figures need. Episodes are added one at a time.

    gathered = Gathered()
    for trajectory in store.episodes.values():     # from disk, one after the other
        gathered.see(trajectory)
    summarize(gathered, n_questions)

An episode of three turns takes many kilobytes. Only some hundred bytes of it are kept: no text, no
tokens, and equal turns only once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import TypeVar

from eval.metrics.accounts import Accounts
from longvideo_env.records.trajectory import Timings, Trajectory, TurnRecord

T = TypeVar("T", str, "str | None")

_NO_TIMINGS = Timings()
_NOTHING: Mapping[str, float] = {}
_OPENING = TurnRecord(0)


class Gathered:
    """The episodes of a run, reduced to what figures need.

    Args:
        trajectories: The first episodes.

    Attributes:
        episodes: The reduced episodes, in order of arrival.
        accounts: Their usage.
    """

    def __init__(self, trajectories: Iterable[Trajectory] = ()) -> None:
        self.episodes: list[Trajectory] = []
        self.accounts = Accounts()
        self._model_s, self._tools_s = array("d"), array("d")
        self._words: dict[str, str] = {}
        self._turns: dict[object, tuple[TurnRecord, ...]] = {}
        for trajectory in trajectories:
            self.see(trajectory)

    @property
    def model_s(self) -> float:
        """Seconds of the policy in all episodes."""
        return sum(self._model_s)

    @property
    def tools_s(self) -> float:
        """Seconds of tools in all episodes."""
        return sum(self._tools_s)

    def see(self, trajectory: Trajectory) -> None:
        """Add an episode."""
        self.accounts.see(trajectory)
        self._model_s.append(trajectory.timings.model_s)
        self._tools_s.append(trajectory.timings.tools_s)
        self.episodes.append(self._brief(trajectory))

    def _brief(self, t: Trajectory) -> Trajectory:
        return Trajectory(
            qid=self._once(t.qid) if isinstance(t.qid, str) else t.qid,
            video_id=self._once(t.video_id),
            policy="",
            sample=t.sample,
            seed=0,
            status=t.status,
            n_options=t.n_options,
            turns=self._turns_of(t),
            segments=(),
            options=t.options and ("",),
            show=self._once(t.show),
            choice=t.choice,
            error=t.error,
            first=t.first and _OPENING,
            correct=t.correct,
            grounded=t.grounded,
            grounded_first=t.grounded_first,
            reward=t.reward,
            reward_terms=_NOTHING,
            reward_error=t.reward_error,
            kind=self._once(t.kind),
            ask=self._once(t.ask),
            answer_scores=t.answer_scores or _NOTHING,
            judged=t.judged,
            timings=_NO_TIMINGS,
        )

    def _turns_of(self, t: Trajectory) -> tuple[TurnRecord, ...]:
        # A free-text answer is needed for votes.
        said = None if t.options or not t.turns else t.turns[-1].argument
        alike = (said, *((x.action, x.moves, x.malformed, _tool_of(x)) for x in t.turns))
        if (known := self._turns.get(alike)) is not None:
            return known
        turns = tuple(
            TurnRecord(
                turn=0,
                action=x.action,
                argument=said if x is t.turns[-1] else None,
                malformed=x.malformed,
                request=None if (tool := _tool_of(x)) is None else {"tool": tool},
                moves=x.moves,
            )
            for x in t.turns
        )
        if said is None:
            self._turns[alike] = turns
        return turns

    def _once(self, word: T) -> T:
        """Return one object for equal texts."""
        return word if word is None else self._words.setdefault(word, word)


def _tool_of(turn: TurnRecord) -> str | None:
    return None if turn.request is None else str(turn.request["tool"])
