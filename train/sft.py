"""Give a policy its first steps by supervised fine-tuning, through TRL's `SFTTrainer`.

From a scripted teacher of the procedural world `mini`, and from random weights:

    accelerate launch --config_file configs/accelerate/single.yaml train/sft.py \
        --model_name_or_path runs/mini-init --tiny_model_if_missing true --use_cpu true \
        --teacher teacher:mini --dataset mini --instructions false --output_dir runs/mini-sft

From saved episodes that reached a reward (rejection sampling):

    accelerate launch --config_file configs/accelerate/single.yaml train/sft.py \
        --model_name_or_path Qwen/Qwen2.5-3B-Instruct --output_dir runs/sft \
        --episodes runs/gpt/episodes.jsonl --min_reward 1.0

Options are the fields of `SftArguments`, `EnvConfig`, TRL's `SFTConfig` and `ModelConfig`, from a
YAML file (`--config FILE`) and from flags, which override it. The policy lies in `--output_dir`
with its tokenizer and loads as `hf:OUTPUT_DIR`. Exit code 2: an option or the data is wrong.

Episodes are rendered turn by turn, as the rollout engine renders them, so that what is learned has
the form in which it is played. Only the policy's own tokens carry a loss, the end-of-turn token
after each reply among them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from accelerate import PartialState
from datasets import Dataset as Rows
from transformers import AutoTokenizer
from trl import ModelConfig, SFTConfig, SFTTrainer, get_peft_config

from agents.chat import ChatCodec
from agents.policies import build_policy
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import DataError, SpecError
from longvideo_env.rollout import RolloutEngine
from longvideo_env.specs import build_toolbox
from longvideo_env.sync import run_blocking
from longvideo_env.trajectory import Trajectory, read_trajectories
from train.demonstrations import as_columns, select, to_row
from train.options import parse_options, run_script
from train.tiny_model import HEAD_SIZE, make_tiny_model

USAGE = "accelerate launch [...] train/sft.py [--config FILE.yaml] [--OPTION VALUE ...]"
DESCRIPTION = "Train a policy on a teacher's episodes, or on saved ones."


@dataclass
class SftArguments:
    """Options of this script, besides those of the environment and of TRL."""

    episodes: list[str] = field(
        default_factory=list,
        metadata={"help": "Files of saved episodes (episodes.jsonl) to learn from."},
    )
    teacher: str | None = field(
        default=None, metadata={"help": "Or a policy that plays the split, such as teacher:mini."}
    )
    teacher_episodes: int = field(
        default=1000, metadata={"help": "How many episodes the teacher plays."}
    )
    min_reward: float | None = field(
        default=None,
        metadata={"help": "Learn only from episodes with at least this reward; by default all."},
    )
    tiny_model_if_missing: bool = field(
        default=False,
        metadata={
            "help": "If there is no folder model_name_or_path, put a tiny random model there, "
            "with whole words of the dataset as tokens."
        },
    )
    tiny_hidden_size: int = field(
        default=128, metadata={"help": "Its width; a multiple of 32 (one head each)."}
    )


def collect(args: SftArguments, env: EnvConfig, seed: int) -> list[Trajectory]:
    """Read or play the episodes to learn from.

    Raises:
        SpecError: Neither or both of `episodes` and `teacher` are given.
        DataError: No episode reached `min_reward`.
    """
    if bool(args.episodes) == bool(args.teacher):
        raise SpecError("give either --episodes FILE [FILE ...] or --teacher POLICY.")
    if args.teacher:
        found = run_blocking(_play(args.teacher, args.teacher_episodes, env, seed))
    else:
        found = [t for path in args.episodes for t in read_trajectories(path)]
    kept, total = select(found, args.min_reward)
    if not kept:
        raise DataError(
            f"none of {total} episodes reached a reward of {args.min_reward}.",
            mend="lower --min_reward, or give more episodes.",
        )
    print(f"{len(kept)} of {total} episodes to learn from")
    return kept


async def _play(teacher: str, n: int, env: EnvConfig, seed: int) -> list[Trajectory]:
    dataset = load_dataset(
        env.dataset, env.split, frames_root=env.frames_root, skip_invalid=env.skip_invalid
    )
    policy = build_policy(teacher)
    engine = RolloutEngine(
        dataset=dataset,
        config=env,
        toolbox=build_toolbox(env, dataset),
        policy=policy,
        policy_spec=teacher,
        seed=seed,
    )
    jobs = ((task, i // len(dataset)) for i, task in enumerate(islice(cycle(dataset.tasks), n)))
    return sorted(
        [trajectory async for trajectory in engine.play_all(jobs)],
        key=lambda t: (t.sample, str(t.qid)),
    )


def main(argv: Sequence[str]) -> None:
    """Train, and save the policy."""
    groups = (SftArguments, EnvConfig, SFTConfig, ModelConfig)
    args, env, training, model = parse_options(groups, argv, usage=USAGE, description=DESCRIPTION)
    trajectories = collect(args, env, training.seed)
    if args.tiny_hidden_size < HEAD_SIZE or args.tiny_hidden_size % HEAD_SIZE:
        raise SpecError(
            f"tiny_hidden_size must be a multiple of {HEAD_SIZE}, got {args.tiny_hidden_size}."
        )
    if args.tiny_model_if_missing:
        with PartialState().main_process_first():
            if not os.path.isdir(model.model_name_or_path):
                make_tiny_model(
                    model.model_name_or_path,
                    seed=training.seed,
                    hidden_size=args.tiny_hidden_size,
                    dataset=env.dataset,
                )
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.model_name_or_path)
    except (OSError, ValueError) as error:
        raise SpecError(
            f"cannot load the tokenizer of {model.model_name_or_path!r}: "
            f"{' '.join(str(error).split())}"
        ) from error
    codec = ChatCodec(tokenizer)
    rows = Rows.from_dict(as_columns([to_row(t, codec) for t in trajectories]))
    training.model_init_kwargs = {"dtype": model.dtype, **(training.model_init_kwargs or {})}
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        processing_class=tokenizer,
        train_dataset=rows,
        peft_config=get_peft_config(model),
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model(training.output_dir)
    trainer.accelerator.print(f"The policy is in {training.output_dir}: hf:{training.output_dir}")
    trainer.accelerator.end_training()


if __name__ == "__main__":
    run_script("sft.py", main)
