"""Train a policy by supervised fine-tuning, through TRL's `SFTTrainer`.

Learn from a scripted teacher of the procedural world `mini`, starting from random weights:

    accelerate launch --config_file configs/accelerate/single.yaml train/sft.py \
        --model-name-or-path runs/mini-init --tiny-model-if-missing true --use-cpu true \
        --teacher teacher:mini --dataset mini --instructions false --output-dir runs/mini-sft

Make the starter policy of the package with teachers in several stages (`make starter`: 6,800
optimizer steps). Each stage is harder than the one before and has its own share of the learning
rate:

    accelerate launch --num_cpu_threads_per_process 1 \
        --config_file configs/accelerate/single.yaml train/sft.py --config configs/sft/mini.yaml

Learn from saved episodes whose reward is at least --min-reward (rejection sampling):

    accelerate launch --config_file configs/accelerate/single.yaml train/sft.py \
        --model-name-or-path Qwen/Qwen2.5-3B-Instruct --output-dir runs/sft \
        --episodes runs/gpt/episodes.jsonl --min-reward 1.0

Options are the fields of `SftArguments`, `EnvConfig`, TRL's `SFTConfig` and `ModelConfig`. They
come from a YAML file (`--config FILE`) and from flags. Flags override the file. The policy is in
`--output-dir` with its tokenizer and loads as `hf:OUTPUT_DIR`.

Episodes are rendered turn by turn, like the rollout engine's. So the policy learns the same form
that it later plays. Only the policy's own tokens carry a loss, with the end-of-turn token after
each reply.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Use the checkout's own packages. Find errors before torch and TRL load (many seconds).
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.options.sft_options import SFT
    from train.options.start import check_start

    check_start(sys.argv[1:], SFT)

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset as Rows
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase
from trl import ModelConfig, SFTConfig, SFTTrainer, get_peft_config

from agents.generation.chat import ChatCodec
from longvideo_env.config import EnvConfig
from longvideo_env.errors import DataError, SpecError
from longvideo_env.game.game import Game
from longvideo_env.records.trajectory import Trajectory, read_trajectories
from longvideo_env.seeding import derive_seed
from train.options.flags import parse_options
from train.options.script import (
    checkpoint_to_resume,
    load_tokenizer,
    make_tiny_model_if_missing,
    model_options,
    run_script,
    train_and_save,
)
from train.options.sft_options import SFT, SftArguments, check_sources
from train.options.start import empty_output
from train.teaching.demonstrations import as_columns, select, to_row
from train.teaching.stages import Stage, build_stages, order_by_length, play
from train.tiny_model import HEAD_SIZE
from train.whole_checkpoints import WholeCheckpoints


def collect(args: SftArguments, env: EnvConfig, seed: int) -> list[list[Trajectory]]:
    """Read or play the episodes to learn from: a list for each stage.

    Raises:
        SpecError: Neither or both of `episodes` and `teacher` are given.
        DataError: A stage has no episode with a reward of at least `min_reward`.
    """
    check_sources(args.episodes, args.teacher)
    env.text_only("supervised fine-tuning")
    if args.episodes:
        saved = [t for path in args.episodes for t in read_trajectories(path)]
        return [_select(saved, args.min_reward, "saved")]
    return [
        _select(play(stage, env, seed), args.min_reward, stage.teacher)
        for stage in stages_of(args, env)
    ]


def stages_of(args: SftArguments, env: EnvConfig) -> list[Stage]:
    """The teachers' stages.

    Raises:
        SpecError: Their options do not fit together.
    """
    datasets = args.teacher_dataset or [env.dataset]
    return build_stages(
        args.teacher, datasets, args.teacher_episodes, args.teacher_epochs, args.teacher_rate
    )


N_READ = 500
"""Number of episodes per stage that are searched for further tokens."""


def tokens_in(
    found: Sequence[Sequence[Trajectory]], env: EnvConfig, patterns: Sequence[str]
) -> Callable[[PreTrainedTokenizerBase], list[str]]:
    """A function that finds the matches of `tiny_tokens` in episodes, given a tokenizer.

    Episodes are searched in the form that the tokenizer's chat template gives them.
    """

    def matched(tokenizer: PreTrainedTokenizerBase) -> list[str]:
        codec = ChatCodec(tokenizer)
        codec.protocol = Game.from_config(env).protocol
        played = [t for stage in found for t in stage[:N_READ]] if patterns else []
        texts = [codec.decode(to_row(trajectory, codec)["input_ids"]) for trajectory in played]
        found_there = (m[0] for p in patterns for text in texts for m in re.finditer(p, text))
        return sorted(set(found_there) - {""})

    return matched


def _select(found: Sequence[Trajectory], min_reward: float | None, name: str) -> list[Trajectory]:
    kept, total = select(found, min_reward)
    if not kept:
        raise DataError(
            f"none of {total} episodes ({name}) has a reward of at least {min_reward}.",
            mend="lower --min-reward, or give more episodes.",
        )
    PartialState().print(f"{len(kept)} of {total} episodes to learn from ({name})")
    return kept


class FixedOrder(Sampler[int]):
    """A fixed order of training examples."""

    def __init__(self, order: Sequence[int]) -> None:
        """Keep the order."""
        self._order = order

    def __iter__(self) -> Iterator[int]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)


class TurnTrainer(WholeCheckpoints, SFTTrainer):
    """`SFTTrainer` with checkpoints that are marked as complete."""


class StagedTrainer(TurnTrainer):
    """Trains on episodes stage by stage, with each stage's share of the learning rate.

    Args:
        stages: The stages, each with the lengths of its episodes. The training data holds the
            stages' episodes one after the other.
        options: The options of `SFTTrainer`.
    """

    def __init__(self, stages: Sequence[tuple[Stage, list[int]]], **options: Any) -> None:
        self._stages = stages
        super().__init__(**options)

    @property
    def _episodes_a_step(self) -> int:
        args = self.args
        return int(args.train_batch_size * args.world_size * args.gradient_accumulation_steps)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rng = np.random.default_rng(derive_seed(self.args.seed, "stages"))
        order: list[int] = []
        start = 0
        for stage, lengths in self._stages:
            within = order_by_length(lengths, stage.epochs, self._episodes_a_step, rng)
            order += [start + i for i in within]
            start += len(lengths)
        return FixedOrder(order)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """The chosen schedule, multiplied by the rate of each step's stage."""
        scheduled = super().create_scheduler(num_training_steps, optimizer)
        if {stage.rate for stage, _ in self._stages} == {1.0}:
            return scheduled
        if not isinstance(scheduled, LambdaLR):
            raise SpecError(
                f"teacher_rate does not work with lr_scheduler_type {self.args.lr_scheduler_type}."
            )
        rates = [
            stage.rate
            for stage, lengths in self._stages
            for _ in range(len(lengths) // self._episodes_a_step * stage.epochs)
        ]

        def staged(factor: Callable[[int], float], step: int) -> float:
            return factor(step) * rates[step % len(rates)]

        scheduled.lr_lambdas = [partial(staged, factor) for factor in scheduled.lr_lambdas]
        return scheduled


def build_trainer(
    args: SftArguments,
    env: EnvConfig,
    training: SFTConfig,
    model: ModelConfig,
    found: list[list[Trajectory]],
) -> SFTTrainer:
    """Build TRL's trainer for the episodes.

    Raises:
        SpecError: The model does not exist, or another model wrote the episodes.
    """
    tokenizer = load_tokenizer(model, trust_remote_code=training.trust_remote_code)
    codec = ChatCodec(tokenizer)
    codec.protocol = Game.from_config(env).protocol
    rows = [[to_row(trajectory, codec) for trajectory in stage] for stage in found]
    training.model_init_kwargs = model_options(model, training)
    options: dict[str, Any] = {
        "model": model.model_name_or_path,
        "args": training,
        "processing_class": tokenizer,
        "train_dataset": Rows.from_dict(as_columns([row for stage in rows for row in stage])),
        "peft_config": get_peft_config(model),
    }
    if not args.teacher:
        return TurnTrainer(**options)
    lengths = [[len(row["input_ids"]) for row in stage] for stage in rows]
    trainer = StagedTrainer(list(zip(stages_of(args, env), lengths, strict=True)), **options)
    kept: Any = trainer.train_dataset
    if len(kept) != sum(map(len, lengths)):
        raise SpecError(
            f"max_length {training.max_length} cuts episodes of up to {max(map(max, lengths))} "
            "tokens, so some have nothing left to learn. Fix: raise --max-length."
        )
    return trainer


def main(argv: Sequence[str]) -> None:
    """Train and save the policy."""
    groups = (SftArguments, EnvConfig, SFTConfig, ModelConfig)
    args, env, training, model = parse_options(
        groups,
        argv,
        prog=SFT.prog,
        description=SFT.description,
        defaults={"output_dir": SFT.output_dir},
    )
    checkpoint = checkpoint_to_resume(training)
    if args.tiny_hidden_size < HEAD_SIZE or args.tiny_hidden_size % HEAD_SIZE:
        raise SpecError(
            f"tiny_hidden_size must be a multiple of {HEAD_SIZE}, got {args.tiny_hidden_size}."
        )
    found = collect(args, env, training.seed)
    if args.tiny_model_if_missing:
        make_tiny_model_if_missing(
            str(model.model_name_or_path),
            seed=training.seed,
            hidden_size=args.tiny_hidden_size,
            dataset=env.dataset,
            base=args.tiny_from,
            tokens=tokens_in(found, env, args.tiny_tokens),
            calls=env.protocol == "functions",
        )
    trainer = build_trainer(args, env, training, model, found)
    if args.overwrite and checkpoint is None and trainer.accelerator.is_main_process:
        empty_output(Path(str(training.output_dir)), None)
    train_and_save(trainer, checkpoint)


if __name__ == "__main__":
    run_script(SFT.name, main)
