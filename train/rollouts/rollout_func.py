"""The adapter between the rollout engine and TRL's `GRPOTrainer`.

`Rollouts` is a `rollout_func`: TRL hands it the questions' ids, it plays one episode a row and
gives back token ids, the loss mask and one column for each term of the reward.

- The mask is `Segment.sampled` and nothing else: 1 for what the model sampled, 0 for observations
  and for the end-of-turn token that the codec appended after an action.
- An episode ends with that token, so TRL does not count it as truncated. Only one that stopped in
  the middle of something does not: its last turn ran into the limit of tokens, or the model's
  context was full.
- A group whose rewards are all equal teaches nothing (its advantages are 0). Such groups are
  counted, and on demand played again with other questions, as in DAPO's dynamic sampling
  (arXiv 2503.14476, section 3.2), but at most a given number of times.
- A failed episode (a tool broke down) has no reward: each function returns None for it, TRL leaves
  it out of its group's mean, and here all of it is masked, so that it takes no part in the
  KL term or in the count of tokens either. Never is it a wrong answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

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
    """What is kept of the rollouts besides their curves.

    Attributes:
        store: Where every trajectory goes, or None.
        table: Where a few whole ones are shown, or None.
    """

    store: RolloutStore | None = None
    table: TrajectoryTable | None = None


class Rollouts:
    """Plays the episodes of a training step: a `rollout_func` of TRL.

    Args:
        engine: Plays episodes; its policy is the backend's.
        backend: Generates with the trainer's weights.
        codec: The policy's.
        max_turn_tokens: The most that a turn may sample.
        keep: What is kept.
        refills: How many times groups whose rewards are all equal are played again, with other
            questions.
        settings: How the backend draws replies.

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
    ) -> None:
        self.engine = engine
        self.backend = backend
        self.codec = codec
        self.max_turn_tokens = max_turn_tokens
        self.keep = keep or Keep()
        self.refills = refills
        self.settings = settings or GenerationSettings()
        self.stopwatch = Stopwatch()
        self.health = Health()
        self.played: list[tuple[Trajectory, int]] = []

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """Play one episode a row.

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
        figures = self.stopwatch.lap(start, busy_s, [one.trajectory for one in rollouts + replaced])
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
            # A run that is resumed draws what it would have drawn. All of a group see the same
            # prompt and get the same from tools that draw; the next time it is another.
            seed, shared = derive_seed(run_seed, step, qid, sample), derive_seed(run_seed, step)
            episodes.append(
                partial(self.engine.play, task, sample, seed=seed, question_seed=shared)
            )
        trajectories = player.play(episodes)
        broken = [t.error for t in trajectories if (t.error or "").startswith("policy (")]
        if broken and len(broken) == len(trajectories):
            # One lost reply costs its episode; an engine that is gone would cost the whole run.
            raise PolicyError(f"no episode got a reply: {broken[0]}")
        return trajectories

    def _keep(self, rollouts: Sequence[Rollout], groups: Groups) -> None:
        step = groups.step + 1  # the trainer counts finished steps, its log the current one
        if groups.rank == 0:
            self.health.check([one.trajectory for one in rollouts], step)
        if self.keep.store is not None:
            self.keep.store.add(rollouts, step, groups.rank)
        if self.keep.table is not None and groups.rank == 0:
            self.keep.table.show([one.trajectory for one in rollouts], step)
