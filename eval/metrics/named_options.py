"""Find options that malformed replies name in plain words.

A model that never learned the tags may write "It is on wednesday." in each turn. Then every turn is
malformed and the accuracy is 0, although the model read the right fact. `named_accuracy` also
counts an option that such a reply names. It is reported beside the accuracy and is never a reward.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from longvideo_env.game.protocol.base import option_label
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.schema import Qid, Task


def named_option(text: str, options: Sequence[str]) -> int | None:
    """The one option that a text names by its label or its words. None for no or several options.

    Case does not matter. Only whole words count. A longer option (`dark red`) does not name a
    shorter one within it (`red`).

    Args:
        text: A reply.
        options: The options as shown.
    """
    names = [(option_label(i), i) for i in range(len(options))]
    names += [(" ".join(option.split()), i) for i, option in enumerate(options) if option.strip()]
    found: set[int] = set()
    rest = " ".join(text.split())
    for name, i in sorted(names, key=lambda item: -len(item[0])):
        rest, n = re.subn(rf"(?<!\w){re.escape(name)}(?!\w)", "\0", rest, flags=re.IGNORECASE)
        if n:
            found.add(i)
    return found.pop() if len(found) == 1 else None


def said_option(trajectory: Trajectory) -> int | None:
    """The last option that an episode without an answer named. None if it named none."""
    malformed = {turn.turn for turn in trajectory.turns if turn.malformed is not None}
    for segment in reversed(trajectory.segments):
        if segment.sampled and segment.turn in malformed:
            named = named_option(segment.text, trajectory.options)
            if named is not None:
                return named
    return None


class NamedOptions:
    """The accuracy that also counts options named in malformed replies, with its counts.

    Args:
        task_of: Returns the question with this id, with its gold answer.
    """

    def __init__(self, task_of: Callable[[Qid], Task]) -> None:
        self._task_of = task_of
        self._n_scored = self._n_hits = self._unanswered = self._named = self._right = 0

    def see(self, trajectory: Trajectory) -> None:
        """Add an episode."""
        if trajectory.status == "failed" or trajectory.correct is None:
            return
        self._n_scored += 1
        self._n_hits += bool(trajectory.correct)
        asked = bool(trajectory.options) and trajectory.choice is None
        if asked and any(turn.malformed for turn in trajectory.turns):
            self._unanswered += 1
            said = said_option(trajectory)
            if said is not None:
                self._named += 1
                task, order = self._task_of(trajectory.qid), trajectory.option_order
                gold = (task if order is None else task.reorder(order)).gold
                self._right += bool(gold.is_right(said))

    def record(self) -> dict[str, Any] | None:
        """The accuracy and its counts.

        Returns:
            - `n_unanswered`: scored episodes with a malformed turn and without an answer.
            - `n_named`: those of them that named one option.
            - `n_right`: those of them that named the right option.
            - `accuracy` and `n_scored`: over all scored episodes.

            None if `n_unanswered` is 0.
        """
        if not self._unanswered:
            return None
        hits = self._n_hits + self._right
        return _record(self._unanswered, self._named, self._right, self._n_scored, hits)


def named_accuracy(
    task_of: Callable[[Qid], Task], trajectories: Iterable[Trajectory]
) -> dict[str, Any] | None:
    """The record of `NamedOptions` for these episodes."""
    named = NamedOptions(task_of)
    for trajectory in trajectories:
        named.see(trajectory)
    return named.record()


def merge_named(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """`named_accuracy` of a whole run, from the summaries of its shards."""
    parts = [part for summary in summaries if (part := summary.get("named_options"))]
    if not parts:
        return None
    unanswered, named, right = (
        sum(int(part[name]) for part in parts) for name in ("n_unanswered", "n_named", "n_right")
    )
    whole = [summary.get("named_options") or summary for summary in summaries]
    n_hits = sum(round((part["accuracy"] or 0) * part["n_scored"]) for part in whole)
    n_scored = sum(int(part["n_scored"]) for part in whole)
    return _record(unanswered, named, right, n_scored, n_hits)


def _record(unanswered: int, named: int, right: int, n_scored: int, n_hits: int) -> dict[str, Any]:
    counts = {"n_unanswered": unanswered, "n_named": named, "n_right": right, "n_scored": n_scored}
    return {**counts, "accuracy": n_hits / n_scored}


def named_lines(summary: Mapping[str, Any]) -> list[str]:
    """A line under the table about episodes with malformed turns and without an answer."""
    found = summary.get("named_options")
    if not found:
        return []
    return [
        f"{found['n_unanswered']} of {found['n_scored']} episodes gave no answer and had malformed "
        f"turns; {found['n_named']} of them name one option in plain words, {found['n_right']} "
        f"the right one. If these counted, the accuracy would be {found['accuracy']:.3f}. "
        "Rewards do not count them."
    ]
