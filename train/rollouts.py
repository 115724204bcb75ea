"""The adapter between the rollout engine and TRL's `GRPOTrainer`.

`Rollouts` is a `rollout_func`: TRL hands it the questions' ids, it plays one episode a row and
gives back token ids, the loss mask and one column for each term of the reward. `reward_functions`
makes one function for each term, so that TRL logs `rewards/<term>/mean`.

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

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate.utils import gather_object
from trl.distributed import DistributedBackend
from trl.models import unwrap_model_for_generation

from agents.chat import ChatCodec
from agents.generation import generate_batch, to_reply
from agents.settings import GenerationSettings
from longvideo_env.datasets import Dataset
from longvideo_env.policy import Reply
from longvideo_env.rollout import RolloutEngine
from longvideo_env.seeding import derive_seed
from longvideo_env.trajectory import Trajectory
from train.lockstep import LockstepPolicy, Request

EQUAL = 1e-6
"""Rewards that differ by less are equal."""

RewardFunction: TypeAlias = Callable[..., list[float | None]]


class Rollouts:
    """Plays the episodes of a training step: a `rollout_func` of TRL.

    Args:
        engine: Plays episodes; its policy is `policy`.
        policy: Generates with the trainer's model, in rounds.
        codec: The policy's.
        settings: How replies are drawn.
        save_to: Folder in which trajectories are kept, or None.
        refills: How many times groups whose rewards are all equal are played again, with other
            questions.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        policy: LockstepPolicy,
        codec: ChatCodec,
        settings: GenerationSettings,
        save_to: Path | None = None,
        refills: int = 0,
    ) -> None:
        self.engine = engine
        self.policy = policy
        self.codec = codec
        self.settings = settings
        self.save_to = save_to
        self.refills = refills
        self._saved: set[Path] = set()

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """Play one episode a row.

        Args:
            prompts: This process's part of the batch: a question's id, repeated for each episode
                of its group.
            trainer: The `GRPOTrainer`.

        Returns:
            `prompt_ids`, `completion_ids`, `logprobs`, `env_mask` and the reward's columns.
        """
        groups = _Groups(prompts, trainer)
        with _generator(trainer, self.codec, self.settings) as generator:
            trajectories = self._play(groups, range(len(prompts)), generator)
            groups.score(trajectories)
            for attempt in range(1, self.refills + 1):
                again = groups.refill(attempt, self.engine.dataset)
                if not again:
                    break
                mine = [i for i in range(len(prompts)) if groups.of(i) in again]
                for i, played in zip(mine, self._play(groups, mine, generator), strict=True):
                    trajectories[i] = played
                groups.score(trajectories)
        if self.save_to is not None:
            self._save(trajectories, self.save_to, groups)
        return to_rows(
            trajectories, tuple(self.engine.weights), self.codec.end_of_turn_id, groups.counts
        )

    def _play(
        self, groups: _Groups, rows: Sequence[int], generator: _Generator
    ) -> list[Trajectory]:
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
        return self.policy.play(episodes, generator.generate, generator.agree)

    def _save(self, trajectories: Sequence[Trajectory], folder: Path, groups: _Groups) -> None:
        """Add to a step's file; what an interrupted run left of the same step is overwritten."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step-{groups.step:06d}-rank-{groups.rank:03d}.jsonl"
        with open(path, "a" if path in self._saved else "w", encoding="utf-8") as file:
            file.writelines(trajectory.to_json() + "\n" for trajectory in trajectories)
        self._saved.add(path)


class _Groups:
    """The groups of one batch, which may reach over several processes.

    Args:
        prompts: This process's rows, as question ids.
        trainer: The `GRPOTrainer`.

    Attributes:
        step: The trainer's.
        run_seed: The trainer's.
        rank: This process's number.
        qids: This process's rows, those of refilled groups with their new question.
        counts: What is logged, over all processes: `zero_variance` (groups whose rewards were all
            equal when first played), `refilled` (groups played again) and `without_signal` (groups
            whose rewards are all equal in the end).
    """

    def __init__(self, prompts: Sequence[str], trainer: Any) -> None:
        training = trainer.model.training
        self.step: int = trainer.state.global_step
        self.run_seed: int = trainer.args.seed
        self.rank: int = trainer.accelerator.process_index
        self.qids = list(prompts)
        self.counts = {"zero_variance": 0, "refilled": 0, "without_signal": 0}
        self._size: int = trainer.num_generations if training else trainer.num_generations_eval
        self._start: int = self.rank * len(prompts)
        self._flat: list[int] | None = None
        self._seen = set(gather_object(list(prompts)))

    def of(self, row: int) -> int:
        """The group of one of this process's rows."""
        return (self._start + row) // self._size

    def sample_of(self, row: int) -> int:
        """A row's position in its group."""
        return (self._start + row) % self._size

    def score(self, trajectories: Sequence[Trajectory]) -> None:
        """Find the groups whose rewards are all equal. A collective."""
        rewards: list[float | None] = gather_object([t.reward for t in trajectories])
        flat = [
            start // self._size
            for start in range(0, len(rewards), self._size)
            if without_signal(rewards[start : start + self._size])
        ]
        if self._flat is None:
            self.counts["zero_variance"] = len(flat)
        self._flat = flat
        self.counts["without_signal"] = len(flat)

    def refill(self, attempt: int, dataset: Dataset) -> set[int]:
        """Give groups without signal other questions, ones that this batch has not seen.

        All processes draw the same.

        Returns:
            The groups to play again; none if there are no such groups or no questions left.
        """
        fresh = [qid for task in dataset if (qid := str(task.qid)) not in self._seen]
        rng = np.random.default_rng(derive_seed(self.run_seed, self.step, "refill", attempt))
        drawn = [fresh[int(i)] for i in rng.permutation(len(fresh))]
        again = dict(zip(self._flat or (), drawn, strict=False))
        self._seen.update(again.values())
        self.qids = [again.get(self.of(row), qid) for row, qid in enumerate(self.qids)]
        self.counts["refilled"] += len(again)
        return set(again)


def without_signal(rewards: Sequence[float | None]) -> bool:
    """Whether a group's rewards are all equal, so that its advantages are 0; None is unknown."""
    known = [reward for reward in rewards if reward is not None]
    return len(known) < 2 or max(known) - min(known) < EQUAL


def to_rows(
    trajectories: Sequence[Trajectory],
    terms: Sequence[str],
    end_of_turn_id: int,
    groups: Mapping[str, int] | None = None,
) -> dict[str, list[Any]]:
    """Trajectories as the columns that TRL expects from a `rollout_func`.

    A row's `prompt_ids` and `completion_ids` together are its segments' token ids, joined. TRL
    needs a token in each: where there is none, as when the first grounding failed, an end-of-turn
    token masked 0 stands in. `groups` is logged, the same in each row.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("prompt_ids", "completion_ids", "env_mask", "qid", "status", "facts")
    }
    columns["groups"] = [dict(groups or {})] * len(trajectories)
    columns |= {term: [] for term in terms}
    for trajectory in trajectories:
        prompt, completion, mask = _tokens(trajectory)
        columns["prompt_ids"].append(prompt or [end_of_turn_id])
        columns["completion_ids"].append(completion or [end_of_turn_id])
        columns["env_mask"].append(mask or [0])
        columns["qid"].append(str(trajectory.qid))
        columns["status"].append(trajectory.status)
        columns["facts"].append(facts(trajectory))
        for term in terms:
            columns[term].append(trajectory.reward_terms.get(term))
    # None: TRL computes the log-probabilities under the policy itself.
    return {**columns, "logprobs": None}  # type: ignore[dict-item]


def facts(trajectory: Trajectory) -> dict[str, float]:
    """What is logged of an episode besides its reward; leaves out what is not known."""
    if trajectory.status == "failed":
        return {"failed": 1.0}
    turns = trajectory.turns
    known: dict[str, float | None] = {
        "failed": 0.0,
        "accuracy": trajectory.correct,
        "grounded": trajectory.grounded,
        "turns": len(turns),
        "tool_calls": sum(turn.request is not None for turn in turns),
        "grounding_calls": _calls(trajectory, "grounding"),
        "vision_calls": _calls(trajectory, "vision"),
        "malformed": sum(turn.malformed is not None for turn in turns) / max(len(turns), 1),
    }
    return {name: float(value) for name, value in known.items() if value is not None}


def _calls(trajectory: Trajectory, kind: str) -> int:
    requests = [turn.request for turn in trajectory.turns if turn.request is not None]
    return sum(request["kind"] == kind for request in requests)


def reward_functions(terms: Sequence[str]) -> list[RewardFunction]:
    """One reward function for each term, of the same name, and unweighted.

    The first also logs each episode's facts, as `episodes/accuracy` and so on, the numbers of
    groups of a kind, as `groups/zero_variance` and so on, and the columns
    `qid` and `status` of the completions table.
    """
    return [_reward_function(term, reports=i == 0) for i, term in enumerate(terms)]


def _reward_function(term: str, *, reports: bool) -> RewardFunction:
    def reward(
        *,
        log_extra: Callable[[str, list[Any]], None],
        log_metric: Callable[[str, float], None],
        **columns: list[Any],
    ) -> list[float | None]:
        if reports:
            log_extra("qid", columns["qid"])
            log_extra("status", columns["status"])
            for episode in columns["facts"]:
                for name, value in episode.items():
                    # TRL takes the mean over everything logged by all processes.
                    log_metric(f"episodes/{name}", value)
            for counts in columns["groups"]:
                for name, value in counts.items():
                    log_metric(f"groups/{name}", value)
        return columns[term]

    reward.__name__ = term
    return reward


def _tokens(trajectory: Trajectory) -> tuple[list[int], list[int], list[int]]:
    prompt: list[int] = []
    completion: list[int] = []
    mask: list[int] = []
    counts = trajectory.status != "failed"
    for segment in trajectory.segments:
        ids = segment.token_ids or ()
        if segment.turn == 0:
            prompt += ids
        else:
            completion += ids
            mask += [int(segment.sampled and counts)] * len(ids)
    return prompt, completion, mask


@dataclass(frozen=True)
class _Generator:
    """Generates with the trainer's model.

    Attributes:
        collective: Each forward gathers weights from all processes, so that all must take part in
            as many rounds, and within a round in as many forwards.
    """

    model: torch.nn.Module
    accelerator: Any
    codec: ChatCodec
    settings: GenerationSettings
    collective: bool

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One batch. Without requests, take part in the other processes' round."""
        with self.accelerator.autocast():  # as TRL computes the log-probabilities
            generated = generate_batch(
                self.model,
                self.codec,
                [request.token_ids for request in requests],
                [request.seed for request in requests],
                self.settings,
                synced_gpus=self.collective,
            )
        return [to_reply(reply, self.codec) for reply in generated]

    def agree(self, more: bool) -> bool:
        """Whether any process has requests left."""
        if not self.collective:
            return more
        left = torch.tensor(int(more), device=self.accelerator.device)
        return bool(self.accelerator.reduce(left, reduction="sum").item())


@contextmanager
def _generator(
    trainer: Any, codec: ChatCodec, settings: GenerationSettings
) -> Iterator[_Generator]:
    """Make the trainer's model ready to generate, once for a whole batch of episodes.

    Under ZeRO-3 with `ds3_gather_for_generation` the weights are gathered on entering and
    generation is local: processes meet again on leaving. Without it, and under FSDP, each forward
    is a collective.
    """
    args, accelerator = trainer.args, trainer.accelerator
    backend = DistributedBackend(accelerator)
    sharded = backend.is_fsdp or (backend.is_zero3 and not args.ds3_gather_for_generation)
    collective = sharded and accelerator.num_processes > 1
    with (
        unwrap_model_for_generation(
            trainer.model_wrapped,
            accelerator,
            gather_deepspeed3_params=args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
        ) as model,
        backend.summon_full_params(trainer.model_wrapped, recurse=False),
    ):
        yield _Generator(model, accelerator, codec, settings, collective)
