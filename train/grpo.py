"""Train a policy with GRPO on episodes of the environment, through TRL's `GRPOTrainer`.

On a CPU, in a few minutes, from the starter policy that ships with the package; it learns when to
ground, when to look and when to answer in the procedural world `mini`:

    accelerate launch --num_cpu_threads_per_process 2 \
        --config_file configs/accelerate/single.yaml train/grpo.py --config configs/grpo/mini.yaml

To see that everything is installed and fits together, in half a minute, with a tiny random model:

    accelerate launch --config_file configs/accelerate/single.yaml \
        train/grpo.py --config configs/grpo/tiny.yaml

The same in two processes under DeepSpeed ZeRO-3 (or `zero2.yaml`, `zero3.yaml` on GPUs):

    accelerate launch --config_file configs/accelerate/cpu_zero3.yaml \
        train/grpo.py --config configs/grpo/tiny.yaml

On own data, and going on after an interruption:

    accelerate launch --config_file configs/accelerate/zero2.yaml train/grpo.py \
        --model_name_or_path Qwen/Qwen2.5-3B-Instruct --dataset DATA_FOLDER --output_dir runs/grpo \
        --save_steps 25 --resume_from_checkpoint true

Options are the fields of `GrpoArguments`, `EnvConfig`, TRL's `GRPOConfig` and `ModelConfig`. They
come from a YAML file (`--config FILE`) and from flags, which override it. The final policy lies in
`--output_dir` with its tokenizer and loads as `hf:OUTPUT_DIR`; so does `metrics.jsonl`, with one
record for each time that TRL logs. Exit code 2: an option or the data is wrong.

Deviations from GRPO as published (DeepSeekMath, arXiv 2402.03300):

- An episode has several turns. Only tokens that the policy sampled carry a gradient; observations
  and what the chat template adds are masked.
- A failed episode (a tool broke down) has no reward: it is masked and left out of its group's mean
  and standard deviation.
- TRL's defaults: no KL term (`--beta 0.001` switches it on; the k3 estimator, as published), the
  loss divided by the number of tokens of the whole batch (`--loss_type grpo` for the mean over
  each episode, as published), and 1e-4 added to a group's standard deviation.
- Replies are sampled without dropout.
- Groups whose rewards are all equal add nothing but KL. `--resample_zero_variance` plays them
  again with other questions.

Deviations from LongVideoAgent (arXiv 2512.20618), which trains with GRPO too:

- All options are shown, in training as in evaluation. Its code cuts five to four.
- An invalid action costs a turn, in training as in evaluation. Its code ends the episode.
- 512 tokens a turn by default (`--max_turn_tokens 1500` as published).
- One update for each batch of episodes. It makes two: give `--steps_per_generation` twice the
  `--gradient_accumulation_steps`.

TRL's `max_completion_length` is set to max_turns * max_turn_tokens, the most that an episode can
sample; `loss_type dr_grpo` divides by it. A tool may keep a process waiting for its whole time
limit: where that is long, raise `--ddp_timeout` (seconds) above it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datasets import Dataset as Prompts
from trl import (
    GRPOConfig,
    ModelConfig,
    get_peft_config,
    get_quantization_config,
)

from agents.chat import ChatCodec
from agents.settings import GenerationSettings
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.errors import DataError
from longvideo_env.rollout import RolloutEngine
from longvideo_env.specs import build_toolbox
from train.backends import Backend, ColocateBackend, ServerBackend, TransformersBackend
from train.curves import METRICS
from train.grpo_options import GrpoArguments, check, parse
from train.metrics_file import MetricsFile
from train.prepare import read_qids
from train.rollouts import Keep, Rollouts
from train.rows import reward_functions
from train.saving import RolloutStore
from train.script import (
    as_mapping,
    checkpoint_to_resume,
    load_tokenizer,
    make_tiny_model_if_missing,
    run_script,
    train_and_save,
)
from train.tables import TrajectoryTable
from train.trainer import EpisodeTrainer


def load_questions(args: GrpoArguments, env: EnvConfig, training: GRPOConfig) -> Dataset:
    """Load the questions to train on.

    Raises:
        DataError: They cannot be read, have no gold answers, or are too few for a batch.
    """
    dataset = load_dataset(
        env.dataset, env.split, frames_root=env.frames_root, skip_invalid=env.skip_invalid
    )
    tasks = dataset.tasks
    if args.questions is not None:
        tasks = tuple(dataset.task(qid) for qid in read_qids(args.questions))
    dataset = replace(dataset, tasks=tasks[: args.limit])
    where = f"{env.dataset}, split {env.split}"
    blind = sum(task.gold.answer is None for task in dataset)
    if blind:
        raise DataError(
            f"{blind} of {len(dataset)} questions have no gold answer, so there is no reward.",
            where,
            mend="train on a split with answers.",
        )
    needed = (training.generation_batch_size or 0) // (training.num_generations or 1)
    if len(dataset) < needed:
        raise DataError(
            f"a batch takes {needed} questions, but there are {len(dataset)}.",
            where,
            mend="lower per_device_train_batch_size, or raise num_generations.",
        )
    return dataset


def build_rollouts(
    args: GrpoArguments,
    env: EnvConfig,
    training: GRPOConfig,
    model: ModelConfig,
    questions: Dataset,
) -> Rollouts:
    """The environment with its tools, and the policy's side of the conversation.

    Raises:
        SpecError: An option has no meaning, there is no such model, or it has no chat template
            that can hold an episode.
    """
    settings = GenerationSettings(
        max_turn_tokens=args.max_turn_tokens,
        temperature=training.temperature,
        top_p=training.top_p,
        top_k=training.top_k,
        max_context_tokens=args.max_context_tokens,
    )
    tokenizer = load_tokenizer(model, trust_remote_code=training.trust_remote_code)
    codec = ChatCodec(tokenizer, as_mapping(training.chat_template_kwargs))
    backend = build_backend(args, training, codec, settings)
    engine = RolloutEngine(
        dataset=questions,
        config=env,
        toolbox=replace(build_toolbox(env, questions), timeout_s=args.tool_timeout_s),
        policy=backend.policy,
        policy_spec=f"{'vllm' if training.use_vllm else 'hf'}:{model.model_name_or_path}",
        seed=training.seed,
    )
    keep = Keep(
        RolloutStore(Path(args.save_rollouts)) if args.save_rollouts else None,
        TrajectoryTable(args.log_trajectories_every) if args.log_trajectories_every else None,
    )
    refills = args.resample_attempts if args.resample_zero_variance else 0
    return Rollouts(engine, backend, codec, args.max_turn_tokens, keep, refills)


def build_backend(
    args: GrpoArguments, training: GRPOConfig, codec: ChatCodec, settings: GenerationSettings
) -> Backend:
    """What generates: transformers, or vLLM here or on a server."""
    concurrency = args.rollout_concurrency
    if not training.use_vllm:
        overlap = args.rollouts == "overlapped"
        return TransformersBackend(codec, settings, concurrency, overlap=overlap)
    if training.vllm_mode == "colocate":
        shared = training.vllm_tensor_parallel_size
        return ColocateBackend(codec, settings, concurrency, shared)
    url = training.vllm_server_base_url
    if url is None:
        url = f"http://{training.vllm_server_host}:{training.vllm_server_port}"
    return ServerBackend(codec, settings, url, concurrency)


def build_trainer(rollouts: Rollouts, training: GRPOConfig, model: ModelConfig) -> EpisodeTrainer:
    """TRL's trainer, for the episodes of `rollouts`."""
    engine, codec = rollouts.engine, rollouts.codec
    training.reward_weights = list(engine.weights.values())
    training.max_completion_length = engine.rules.max_turns * rollouts.max_turn_tokens
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **as_mapping(training.model_init_kwargs),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
        trainer = EpisodeTrainer(
            model=str(model.model_name_or_path),
            args=training,
            processing_class=codec.tokenizer,
            # Ids and nothing else: neither gold nor text goes through TRL's data.
            train_dataset=Prompts.from_dict({"prompt": [str(task.qid) for task in engine.dataset]}),
            reward_funcs=[*reward_functions(tuple(engine.weights))],
            rollout_func=rollouts,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
            callbacks=[MetricsFile(Path(str(training.output_dir), METRICS))],
        )
    if codec.end_of_turn_id not in trainer.eos_token_ids:
        # A base model's eos ends a text, not a turn: TRL would call every episode truncated.
        trainer.eos_token_ids = [*trainer.eos_token_ids, codec.end_of_turn_id]
    return trainer


def prepare(
    args: GrpoArguments, env: EnvConfig, training: GRPOConfig, model: ModelConfig
) -> EpisodeTrainer:
    """From options to a trainer that is ready to run.

    Raises:
        SpecError: An option has no meaning.
        DataError: The questions cannot be trained on.
    """
    check(args, env, training, model)
    questions = load_questions(args, env, training)
    if args.tiny_model_if_missing:
        make_tiny_model_if_missing(str(model.model_name_or_path), seed=training.seed)
    return build_trainer(build_rollouts(args, env, training, model, questions), training, model)


def main(argv: Sequence[str]) -> None:
    """Train, and save the policy."""
    if "--preflight" in argv:
        # Read otherwise: as many processes and GPUs as the run will have need not be here.
        from train import preflight

        sys.exit(preflight.run(argv))
    args, env, training, model = parse(argv)
    checkpoint = checkpoint_to_resume(training)
    trainer = prepare(args, env, training, model)
    train_and_save(trainer, checkpoint, trainer.release_engine)


if __name__ == "__main__":
    run_script("grpo.py", main)
