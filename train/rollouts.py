"""The adapter between the rollout engine and TRL's `GRPOTrainer`.

`Rollouts` is a `rollout_func`: TRL hands it the questions' ids, it plays one episode a row and
gives back token ids, the loss mask and one column for each term of the reward. `reward_functions`
makes one function for each term, so that TRL logs `rewards/<term>/mean`.

- The mask is `Segment.sampled` and nothing else: 1 for what the model sampled, 0 for observations
  and for the end-of-turn token that the codec appended after an action.
- An episode ends with that token, so TRL does not count it as truncated. Only one that stopped in
  the middle of something does not: its last turn ran into the limit of tokens, or the model's
  context was full.
- A failed episode (a tool broke down) has no reward: each function returns None for it, TRL leaves
  it out of its group's mean, and here all of it is masked, so that it takes no part in the
  KL term or in the count of tokens either. Never is it a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from trl.distributed import DistributedBackend
from trl.models import unwrap_model_for_generation

from agents.chat import ChatCodec
from agents.generation import generate_batch, to_reply
from agents.settings import GenerationSettings
from longvideo_env.policy import Reply
from longvideo_env.rollout import RolloutEngine
from longvideo_env.seeding import derive_seed
from longvideo_env.trajectory import Trajectory
from train.lockstep import LockstepPolicy, Request

RewardFunction: TypeAlias = Callable[..., list[float | None]]


class Rollouts:
    """Plays the episodes of a training step: a `rollout_func` of TRL.

    Args:
        engine: Plays episodes; its policy is `policy`.
        policy: Generates with the trainer's model, in rounds.
        codec: The policy's.
        settings: How replies are drawn.
        save_to: Folder in which trajectories are kept, or None.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        policy: LockstepPolicy,
        codec: ChatCodec,
        settings: GenerationSettings,
        save_to: Path | None = None,
    ) -> None:
        self.engine = engine
        self.policy = policy
        self.codec = codec
        self.settings = settings
        self.save_to = save_to

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """Play one episode a row.

        Args:
            prompts: This process's part of the batch: a question's id, repeated for each episode
                of its group.
            trainer: The `GRPOTrainer`.

        Returns:
            `prompt_ids`, `completion_ids`, `logprobs`, `env_mask` and the reward's columns.
        """
        step, run_seed = trainer.state.global_step, trainer.args.seed
        episodes = [
            partial(
                self.engine.play,
                self.engine.dataset.task(qid),
                sample,
                # A run that is resumed draws what it would have drawn. All of a group see the same
                # prompt and get the same from tools that draw; the next time it is another.
                seed=derive_seed(run_seed, step, qid, sample),
                question_seed=derive_seed(run_seed, step),
            )
            for qid, sample in zip(prompts, _samples(prompts, trainer), strict=True)
        ]
        with _generator(trainer, self.codec, self.settings) as generator:
            trajectories = self.policy.play(episodes, generator.generate, generator.agree)
        if self.save_to is not None:
            _save(trajectories, self.save_to, step, trainer.accelerator.process_index)
        return to_rows(trajectories, tuple(self.engine.weights), self.codec.end_of_turn_id)


def to_rows(
    trajectories: Sequence[Trajectory], terms: Sequence[str], end_of_turn_id: int
) -> dict[str, list[Any]]:
    """Trajectories as the columns that TRL expects from a `rollout_func`.

    A row's `prompt_ids` and `completion_ids` together are its segments' token ids, joined. TRL
    needs a token in each: where there is none, as when the first grounding failed, an end-of-turn
    token masked 0 stands in.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("prompt_ids", "completion_ids", "env_mask", "qid", "status", "facts")
    }
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
        "malformed": sum(turn.malformed is not None for turn in turns) / max(len(turns), 1),
    }
    return {name: float(value) for name, value in known.items() if value is not None}


def reward_functions(terms: Sequence[str]) -> list[RewardFunction]:
    """One reward function for each term, of the same name, and unweighted.

    The first also logs each episode's facts, as `episodes/accuracy` and so on, and the columns
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
        return columns[term]

    reward.__name__ = term
    return reward


def _samples(prompts: Sequence[str], trainer: Any) -> Iterator[int]:
    """Each row's position in its group; a group may reach over several processes."""
    training = trainer.model.training
    size = trainer.num_generations if training else trainer.num_generations_eval
    start = trainer.accelerator.process_index * len(prompts)
    return (i % size for i in range(start, start + len(prompts)))


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


def _save(trajectories: Sequence[Trajectory], folder: Path, step: int, rank: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"step-{step:06d}-rank-{rank:03d}.jsonl", "a", encoding="utf-8") as file:
        file.writelines(trajectory.to_json() + "\n" for trajectory in trajectories)


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
