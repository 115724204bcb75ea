"""The adapter between the rollout engine and TRL's `GRPOTrainer`.

`Rollouts` is a `rollout_func`. TRL gives it question ids. It plays one episode per row and returns
token ids, the loss mask and one column for each term of the reward.

- The mask is `Segment.sampled`: 1 for sampled tokens, 0 for observations and for the end-of-turn
  token that the codec appends after an action.
- An episode ends with that token, so TRL does not count it as truncated. It has no such token if
  its last turn reached the token limit or the model's context was full.
- A group whose rewards are all equal teaches nothing (its advantages are 0). Such groups are
  counted. On demand they are played again with other questions, as in DAPO's dynamic sampling
  (arXiv 2503.14476, section 3.2), but at most a given number of times.
- A failed episode (a tool failed) has no reward. Each reward function returns None for it, and TRL
  leaves it out of its group's mean. All its tokens are masked, so it has no part in the KL term or
  the token count. It is never counted as a wrong answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from accelerate.utils import gather_object

from agents.generation.chat import ChatCodec
from agents.generation.settings import GenerationSettings
from longvideo_env.drivers.rollout import RolloutEngine
from longvideo_env.errors import PolicyError
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.seeding import derive_seed
from train.rollouts.backends import Backend, Player
from train.rollouts.columns import to_rows
from train.rollouts.health import Health
from train.rollouts.rollout_groups import Groups
from train.rollouts.saving import Rollout, RolloutStore
from train.rollouts.stopwatch import Stopwatch
from train.rollouts.trajectory_table import TrajectoryTable


@dataclass(frozen=True)
class Keep:
    """Where rollouts are kept besides their curves.

    Attributes:
        store: Saves every trajectory, or None.
        table: Shows a few whole trajectories, or None.
    """

    store: RolloutStore | None = None
    table: TrajectoryTable | None = None


class Rollouts:
    """Plays the episodes of a training step: a `rollout_func` of TRL.

    Args:
        engine: Plays episodes; its policy is the backend's.
        backend: Generates with the trainer's weights.
        codec: The policy's.
        max_turn_tokens: The most tokens that a turn may sample.
        keep: Where rollouts are kept.
        refills: How many times groups with all-equal rewards are played again, with other
            questions.
        settings: How the backend draws replies.
        outcomes: Called with the scored episodes of a step from all processes: each question's id,
            and whether the answer was right. Returns figures to log.

    Attributes:
        played: The rows of the latest batch: each episode, and the number of its group.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        backend: Backend,
        codec: ChatCodec,
        max_turn_tokens: int,
        keep: Keep | None = None,
        refills: int = 0,
        settings: GenerationSettings | None = None,
        outcomes: Callable[[list[tuple[str, bool]]], dict[str, float]] | None = None,
    ) -> None:
        self.engine = engine
        self.backend = backend
        self.codec = codec
        self.max_turn_tokens = max_turn_tokens
        self.keep = keep or Keep()
        self.refills = refills
        self.settings = settings or GenerationSettings()
        self.outcomes = outcomes
        self.stopwatch = Stopwatch()
        self.health = Health()
        self.played: list[tuple[Trajectory, int]] = []

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """Play one episode per row.

        Args:
            prompts: This process's part of the batch: a question's id, repeated for each episode
                of its group.
            trainer: The `GRPOTrainer`.

        Returns:
            `prompt_ids`, `completion_ids`, `logprobs`, `env_mask` and the reward's columns.
        """
        start = time.perf_counter()
        recording = self.engine.toolbox.recording
        earlier = None if recording is None else replace(recording.stats)
        groups = Groups(prompts, trainer)
        replaced: list[Rollout] = []
        with self.backend.open(trainer) as player:
            trajectories = self._play(groups, range(len(prompts)), player)
            groups.score(trajectories)
            for attempt in range(1, self.refills + 1):
                again = groups.refill(attempt, self.engine.dataset)
                if not again:
                    break
                mine = [i for i in range(len(prompts)) if groups.of(i) in again]
                replaced += [Rollout(trajectories[i], i, refilled=True) for i in mine]
                for i, played in zip(mine, self._play(groups, mine, player), strict=True):
                    trajectories[i] = played
                groups.score(trajectories)
            busy_s = player.busy_s
        self.played = [(t, groups.of(row)) for row, t in enumerate(trajectories)]
        rollouts = [Rollout(trajectory, i) for i, trajectory in enumerate(trajectories)]
        self._keep([*rollouts, *replaced], groups)
        everything = [one.trajectory for one in rollouts + replaced]
        figures = self.stopwatch.lap(start, busy_s, everything)
        if self.outcomes is not None:
            scored = [(str(t.qid), t.correct) for t in everything if t.correct is not None]
            figures |= self.outcomes(gather_object(scored))
        if recording is not None and earlier is not None:
            hit_rate = recording.stats.since(earlier).hit_rate
            figures |= {} if hit_rate is None else {"recording/hit_rate": hit_rate}
        return to_rows(
            trajectories,
            tuple(self.engine.game.reward),
            self.codec.end_of_turn_id,
            {**groups.figures, **figures},
            logprobs=self.backend.has_logprobs,
        )

    def _play(self, groups: Groups, rows: Sequence[int], player: Player) -> list[Trajectory]:
        step, run_seed = groups.step, groups.run_seed
        episodes = []
        for row in rows:
            qid, sample = groups.qids[row], groups.sample_of(row)
            task = self.engine.dataset.task(qid)
            # A resumed run draws the same. All episodes of a group get the same prompt and the
            # same results of random tools. The next step gets others.
            seed, shared = derive_seed(run_seed, step, qid, sample), derive_seed(run_seed, step)
            episodes.append(
                partial(self.engine.play, task, sample, seed=seed, question_seed=shared)
            )
        trajectories = player.play(episodes)
        broken = [t.error for t in trajectories if (t.error or "").startswith("policy (")]
        if broken and len(broken) == len(trajectories):
            # One lost reply costs one episode. A lost engine would waste the whole run.
            raise PolicyError(f"no episode got a reply: {broken[0]}")
        return trajectories

    def _keep(self, rollouts: Sequence[Rollout], groups: Groups) -> None:
        step = groups.step + 1  # the trainer counts finished steps, its log has the current one
        if groups.rank == 0:
            self.health.check([one.trajectory for one in rollouts], step)
        if self.keep.store is not None:
            self.keep.store.add(rollouts, step, groups.rank)
        if self.keep.table is not None and groups.rank == 0:
            self.keep.table.show([one.trajectory for one in rollouts], step)
