"""Credit for each turn: advantages of shape (B, T) instead of one for the whole episode.

A turn earns the growth of the episode's reward. The reward terms are computed after each turn, so
every term, also a custom one, gives credit by turn. The turns of an episode add up to its reward
minus the reward before its first turn.

A is TRL's advantage of the episode. Mean and sigma are over turns of the episodes in a group. Like
TRL, sigma has 1e-4 added.

- `turn` (MT-GRPO, arXiv 2505.11821, section 3.2): A + w * (r_k - mean) / sigma for each turn k but
  the last. r_k is the reward that turn k earned. Mean and sigma are over the k-th turns that are
  not the last of their episode. The last turn has A.
- `state` (GiGPO, arXiv 2505.10978, equations 6 to 8): A + w * (R_k - mean) / sigma. R_k is the
  discounted reward earned from turn k on. Mean and sigma are over all turns of the group that began
  with the same clips in view. A turn with a view that no other turn had has A.

Deviations: MT-GRPO has two turns, with one reward for the first and one for the second. GiGPO
compares turns with the same whole state of the environment. Here they need only the same view,
because visited clips and turns left would make almost every state unique.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import NamedTuple

from longvideo_env.game.game import Game
from longvideo_env.game.replay import after_turn, replay
from longvideo_env.game.reward import score
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.schema import Task

EPSILON = 1e-4
"""The number that TRL adds to a standard deviation."""


class Earned(NamedTuple):
    """The rewards of an episode's turns.

    Attributes:
        group: The group of episodes that it belongs to.
        rewards: The reward that each turn earned.
        states: The clips in view when each turn began.
    """

    group: int
    rewards: tuple[float, ...]
    states: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Credit:
    """How turns are credited.

    Attributes:
        kind: `turn` or `state`.
        weight: Weight of the turn's part (lambda in MT-GRPO, omega in GiGPO).
        discount: With `state`: discount of later rewards per turn (gamma in GiGPO).
    """

    kind: str = "turn"
    weight: float = 1.0
    discount: float = 0.95

    def of(self, episodes: Sequence[Earned | None]) -> list[list[float]]:
        """The number to add to each turn's advantage, by episode. Empty for None."""
        values: dict[Hashable, list[tuple[int, int, float]]] = defaultdict(list)
        for row, earned in enumerate(episodes):
            if earned is None:
                continue
            for turn, value in self._values(earned):
                alike = turn if self.kind == "turn" else earned.states[turn]
                values[earned.group, alike].append((row, turn, value))
        added = [[0.0] * len(earned.rewards) if earned else [] for earned in episodes]
        for same in values.values():
            if len(same) < 2:
                continue
            numbers = [value for _, _, value in same]
            mean, sigma = fmean(numbers), stdev(numbers) + EPSILON
            for row, turn, value in same:
                added[row][turn] = self.weight * (value - mean) / sigma
        return added

    def _values(self, earned: Earned) -> list[tuple[int, float]]:
        if self.kind == "turn":
            return list(enumerate(earned.rewards[:-1]))
        ahead, returns = 0.0, []
        for reward in reversed(earned.rewards):
            ahead = reward + self.discount * ahead
            returns.append(ahead)
        return list(enumerate(reversed(returns)))


def earned_by_turns(played: Trajectory, task: Task, game: Game, group: int) -> Earned | None:
    """The reward that each turn of an episode earned. None if the episode or a part has no reward.

    Args:
        played: The episode.
        task: Its question, in the dataset's order of options.
        game: The game that it played.
        group: The group of episodes that it belongs to.
    """
    if played.reward is None or not played.turns:
        return None
    if played.option_order is not None:
        task = task.reorder(played.option_order)
    play = replay(played, game)
    totals = []
    for n_turns in range(len(play.parsed)):
        total = score(after_turn(play, n_turns), task.gold, game.reward).reward
        if total is None:
            return None
        totals.append(total)
    totals.append(played.reward)
    view, states = played.opened_at, []
    for turn in played.turns:
        states.append(view)
        view = turn.shown or view
    rewards = tuple(after - before for before, after in pairwise(totals))
    return Earned(group, rewards, tuple(states[: len(rewards)]))


def turn_of_tokens(played: Trajectory) -> list[int]:
    """The turn, from 1, of each completion token, in the order of `columns.to_rows`."""
    return [
        segment.turn
        for segment in played.segments
        if segment.turn > 0
        for _ in segment.token_ids or ()
    ]
