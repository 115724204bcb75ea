"""Train a policy with GRPO on episodes of the environment, through TRL's `GRPOTrainer`.

Train the starter policy of the package on a CPU, in a few minutes. It learns when to ground, when
to look and when to answer in the procedural world `mini`:

    accelerate launch --num_cpu_threads_per_process 2 \
        --config_file configs/accelerate/single.yaml train/grpo.py --config configs/grpo/mini.yaml

Check the installation in half a minute, with a tiny random model:

    accelerate launch --config_file configs/accelerate/single.yaml \
        train/grpo.py --config configs/grpo/tiny.yaml

The same in two processes under DeepSpeed ZeRO-3 (see `configs/accelerate/` for GPUs):

    accelerate launch --config_file configs/accelerate/cpu_zero3.yaml \
        train/grpo.py --config configs/grpo/tiny.yaml

Train on your own data, and continue after an interruption:

    accelerate launch --config_file configs/accelerate/zero2.yaml train/grpo.py \
        --model-name-or-path Qwen/Qwen2.5-3B-Instruct --dataset DATA_FOLDER --output-dir runs/grpo \
        --save-steps 25 --resume-from-checkpoint true

One of the paper's recipes, with generation by vLLM on two GPUs. The first command estimates what it
needs:

    python train/grpo.py --config configs/grpo/qwen2.5-3b.yaml --dataset DATA_FOLDER \
        --preflight --accelerate-config configs/accelerate/zero2_2gpu_offload.yaml
    accelerate launch --config_file configs/accelerate/zero2_2gpu_offload.yaml train/grpo.py \
        --config configs/grpo/qwen2.5-3b.yaml --dataset DATA_FOLDER

Options are the fields of `GrpoArguments`, `EnvConfig`, TRL's `GRPOConfig` and `ModelConfig`. They
come from a YAML file (`--config FILE`) and from flags. Flags override the file. The final policy is
in `--output-dir` with its tokenizer and loads as `hf:OUTPUT_DIR`. The same folder holds
`metrics.jsonl`, with one record for each time that TRL logs.

Deviations from GRPO as published (DeepSeekMath, arXiv 2402.03300):

- An episode has several turns. Only tokens that the policy sampled carry a gradient; observations
  and what the chat template adds are masked.
- A failed episode (a tool failed) has no reward. It is masked and left out of its group's mean and
  standard deviation.
- TRL's default has no KL term. `--beta 0.001` switches it on, with the k3 estimator as published.
- TRL's default divides the loss by the number of tokens of the whole batch. `--loss-type grpo`
  takes the mean over each episode, as published.
- TRL adds 1e-4 to a group's standard deviation.
- Replies are sampled without dropout.
- Groups whose rewards are all equal add nothing but KL. `--resample-zero-variance` plays them
  again with other questions.

Deviations from LongVideoAgent (arXiv 2512.20618), which also trains with GRPO:

- All options are shown, in training as in evaluation. Its code cuts five to four.
- An invalid action costs a turn, in training as in evaluation. Its code ends the episode.
- 512 tokens a turn by default (`--max-turn-tokens 1500` as published).
- One update for each batch of episodes. The paper's code makes two. For two, give
  `--steps-per-generation` twice the `--gradient-accumulation-steps`.

TRL's `max_completion_length` is set to max_turns * max_turn_tokens, the most that an episode can
sample. `loss_type dr_grpo` divides by it. A process may wait `--tool-timeout-s` seconds for a tool.
Keep `--ddp-timeout` (seconds) above that.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Use the checkout's own packages. Find errors before torch and TRL load (many seconds).
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.options.grpo_options import GRPO
    from train.options.start import check_start

    check_start(sys.argv[1:], GRPO)

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace

from datasets import Dataset as Prompts
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerCallback
from trl import (
    GRPOConfig,
    ModelConfig,
    get_peft_config,
    get_quantization_config,
)

from agents.generation.chat import ChatCodec
from agents.generation.seeing_codec import SeeingCodec
from agents.generation.settings import GenerationSettings
from eval.runs.run_options import fresh_draw
from eval.runs.selection import QuestionSelection, choose
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.datasets.forms import ask_as
from longvideo_env.drivers.rollout import RolloutEngine
from longvideo_env.errors import DataError
from longvideo_env.game.game import Game
from longvideo_env.records.files import write_json
from longvideo_env.records.metrics_log import ENVIRONMENT, METRICS, ROLLOUTS, RUN
from longvideo_env.tools.registry import build_toolbox
from train.curriculum import Curriculum
from train.held_out import HeldOut
from train.metrics_file import MetricsFile
from train.options.grpo_options import GrpoArguments, check, parse
from train.options.script import (
    checkpoint_to_resume,
    load_chat,
    make_tiny_model_if_missing,
    model_options,
    run_script,
    train_and_save,
)
from train.options.start import empty_output
from train.planning.prompt_sets import read_qids
from train.progress_line import ProgressLine
from train.rollouts.backends import Backend, ColocateBackend, ServerBackend, TransformersBackend
from train.rollouts.columns import reward_functions
from train.rollouts.credit import Credit
from train.rollouts.rollout_func import Keep, Rollouts
from train.rollouts.saving import RolloutStore
from train.rollouts.trajectory_table import TrajectoryTable
from train.trainer import EpisodeTrainer


def load_questions(args: GrpoArguments, env: EnvConfig, training: GRPOConfig) -> Dataset:
    """Load the questions to train on.

    Raises:
        DataError: The questions cannot be read, have no gold answers, or are too few for a batch.
    """
    found = load_dataset(
        env.dataset, env.split, frames_root=env.frames_root, skip_invalid=env.skip_invalid
    )
    dataset = ask_as(found, env.ask)
    tasks = dataset.tasks
    if args.questions is not None:
        tasks = tuple(dataset.task(qid) for qid in read_qids(args.questions))
    dataset = replace(dataset, tasks=tasks[: args.limit])
    where = f"{env.dataset}, split {env.split}"
    blind = sum(not task.gold.is_known for task in dataset)
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
            mend="lower --per-device-train-batch-size, or raise --num-generations.",
        )
    return dataset


def build_rollouts(
    args: GrpoArguments,
    env: EnvConfig,
    training: GRPOConfig,
    model: ModelConfig,
    questions: Dataset,
) -> Rollouts:
    """Build the environment with its tools, and the policy that plays in it.

    Raises:
        SpecError: An option is invalid, the model does not exist, or its chat template cannot hold
            an episode.
    """
    settings = GenerationSettings(
        max_turn_tokens=args.max_turn_tokens,
        temperature=training.temperature,
        top_p=training.top_p,
        top_k=training.top_k,
        max_context_tokens=args.max_context_tokens,
    )
    codec = load_chat(model, training, sees=env.frames > 0)
    backend = build_backend(args, training, codec, settings)
    spec = f"{'vllm' if training.use_vllm else 'hf'}:{model.model_name_or_path}"
    engine = build_engine(args, env, questions, backend, spec, training.seed)
    keep = Keep(
        RolloutStore(Path(args.save_rollouts)) if args.save_rollouts else None,
        TrajectoryTable(args.log_trajectories_every) if args.log_trajectories_every else None,
    )
    refills = args.resample_attempts if args.resample_zero_variance else 0
    return Rollouts(engine, backend, codec, args.max_turn_tokens, keep, refills, settings)


def build_engine(
    args: GrpoArguments, env: EnvConfig, questions: Dataset, backend: Backend, spec: str, seed: int
) -> RolloutEngine:
    """Build the engine that plays episodes of these questions with the backend's policy."""
    return RolloutEngine(
        dataset=questions,
        config=env,
        toolbox=replace(build_toolbox(env, questions), timeout_s=args.tool_timeout_s),
        policy=backend.policy,
        policy_spec=spec,
        seed=seed,
    )


def build_held_out(
    args: GrpoArguments, env: EnvConfig, training: GRPOConfig, rollouts: Rollouts
) -> HeldOut | None:
    """Build the evaluation during training. None without an evaluation.

    Raises:
        DataError: The held-out questions cannot be read, have no answers, or are in the training
            set.
    """
    if training.eval_strategy == "no":
        return None
    dataset = fresh_draw(args.eval_dataset or env.dataset, args.eval_seed)
    env = replace(env, dataset=dataset, split=args.eval_split or env.split)
    found = load_dataset(env.dataset, env.split, skip_invalid=env.skip_invalid)
    questions = ask_as(found, env.ask)
    chosen = choose(questions, QuestionSelection(limit=args.eval_limit), {})
    questions = replace(questions, tasks=tuple(chosen.tasks))
    where = f"{env.dataset}, split {env.split}"
    if not any(task.gold.is_known for task in questions):
        raise DataError("no held-out question has a gold answer.", where)
    trained_on, shared = rollouts.engine.config, 0
    if (env.dataset, env.split) == (trained_on.dataset, trained_on.split):
        trained = {task.qid for task in rollouts.engine.dataset}
        shared = sum(task.qid in trained for task in questions)
    if shared:
        raise DataError(
            f"{shared} of the {len(questions)} held-out questions are also in the training set.",
            where,
            mend="give another --eval-split or --eval-dataset.",
        )
    backend = rollouts.backend
    if args.eval_temperature not in (None, training.temperature):
        drawn = replace(rollouts.settings, temperature=args.eval_temperature)
        backend = build_backend(args, training, rollouts.codec, drawn)
    spec = rollouts.engine.policy_spec
    return HeldOut(build_engine(args, env, questions, backend, spec, args.eval_seed), backend)


def build_backend(
    args: GrpoArguments, training: GRPOConfig, codec: ChatCodec, settings: GenerationSettings
) -> Backend:
    """Build the backend that generates: transformers, or vLLM in this process or on a server."""
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


def build_trainer(
    rollouts: Rollouts,
    training: GRPOConfig,
    model: ModelConfig,
    credit: Credit | None = None,
    held_out: HeldOut | None = None,
    patience: int | None = None,
    curriculum: Curriculum | None = None,
    *,
    send_adapter: bool = False,
) -> EpisodeTrainer:
    """TRL's trainer, for the episodes of `rollouts`."""
    engine, codec = rollouts.engine, rollouts.codec
    training.reward_weights = list(engine.game.reward.values())
    training.max_completion_length = engine.game.max_turns * rollouts.max_turn_tokens
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        **model_options(model, training),
    }
    if isinstance(codec, SeeingCodec) and training.ddp_find_unused_parameters is None:
        # An episode without frames gives the vision part no gradients.
        training.ddp_find_unused_parameters = True
    callbacks: list[TrainerCallback] = [MetricsFile(Path(str(training.output_dir), METRICS))]
    if patience is not None:
        callbacks.append(EarlyStoppingCallback(patience))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
        trainer = EpisodeTrainer(
            credit=credit,
            held_out=held_out,
            curriculum=curriculum,
            send_adapter=send_adapter,
            model=str(model.model_name_or_path),
            args=training,
            processing_class=codec.tokenizer,
            train_dataset=_prompts(engine.dataset),
            eval_dataset=None if held_out is None else _prompts(held_out.engine.dataset),
            reward_funcs=[*reward_functions(tuple(engine.game.reward))],
            rollout_func=rollouts,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
            callbacks=callbacks,
        )
    trainer.remove_callback(ProgressCallback if not training.disable_tqdm else PrinterCallback)
    trainer.add_callback(ProgressLine(rollouts.health))
    # A base model's eos ends a text, not a turn. TRL would count every episode as truncated.
    more = codec.end_ids - set(trainer.eos_token_ids)
    trainer.eos_token_ids = [*trainer.eos_token_ids, *sorted(more)]
    return trainer


def _prompts(questions: Dataset) -> Prompts:
    """The question ids only. Gold answers and texts do not go through TRL's data."""
    return Prompts.from_dict({"prompt": [str(task.qid) for task in questions]})


def prepare(
    args: GrpoArguments, env: EnvConfig, training: GRPOConfig, model: ModelConfig
) -> EpisodeTrainer:
    """Make a trainer that is ready to run from the options.

    Raises:
        SpecError: An option is invalid.
        DataError: The questions cannot be trained on.
    """
    check(args, env, training, model)
    questions = load_questions(args, env, training)
    if args.tiny_model_if_missing:
        make_tiny_model_if_missing(str(model.model_name_or_path), seed=training.seed)
    credit = None
    if args.credit != "episode":
        credit = Credit(args.credit, args.credit_weight, args.credit_discount)
    rollouts = build_rollouts(args, env, training, model, questions)
    held_out = build_held_out(args, env, training, rollouts)
    curriculum = None
    if args.curriculum:
        curriculum = build_curriculum(questions, rollouts, training)
    options = (credit, held_out, args.early_stopping_patience, curriculum)
    return build_trainer(rollouts, training, model, *options, send_adapter=args.send_adapter)


def build_curriculum(questions: Dataset, rollouts: Rollouts, training: GRPOConfig) -> Curriculum:
    """Build the curriculum, which draws questions and counts the outcomes of every batch."""
    curriculum = Curriculum(len(questions), training.seed)
    places = {str(task.qid): place for place, task in enumerate(questions)}

    def outcomes(found: list[tuple[str, bool]]) -> dict[str, float]:
        curriculum.count((places[qid], right) for qid, right in found)
        return curriculum.figures

    rollouts.outcomes = outcomes
    return curriculum


def write_environment(env: EnvConfig, folder: Path, rollouts: str | None = None) -> None:
    """Write the environment's options, and the paths of run and rollouts, for later readers."""
    folder.mkdir(parents=True, exist_ok=True)
    record = env.record() | {"words": Game.from_config(env).words.digest}
    if rollouts is not None:
        Path(rollouts).mkdir(parents=True, exist_ok=True)
        write_json(Path(rollouts) / ENVIRONMENT, record | {RUN: os.path.relpath(folder, rollouts)})
        record[ROLLOUTS] = os.path.relpath(rollouts, folder)
    write_json(folder / ENVIRONMENT, record)


def say_plan(env: EnvConfig, training: GRPOConfig, model: ModelConfig) -> None:
    """Print the chosen model, dataset, device, precision and output folder in one line."""
    if os.environ.get("RANK", "0") == "0":
        dtype = "bfloat16" if training.bf16 else "float16" if training.fp16 else "float32"
        print(
            f"longvideo-env train: {Path(str(model.model_name_or_path)).name} on {env.dataset} "
            f"({env.split}), {training.device.type}, {dtype}; output: {training.output_dir}",
            flush=True,
        )


def main(argv: Sequence[str]) -> None:
    """Train and save the policy."""
    if "--preflight" in argv:
        # Preflight parses for itself: this machine may have fewer processes and GPUs than the run.
        from train.planning import preflight

        sys.exit(preflight.run(argv))
    args, env, training, model = parse(argv)
    checkpoint = checkpoint_to_resume(training)
    say_plan(env, training, model)
    trainer = prepare(args, env, training, model)
    if trainer.accelerator.is_main_process:
        if args.overwrite and checkpoint is None:
            empty_output(Path(str(training.output_dir)), args.save_rollouts)
        write_environment(env, Path(str(training.output_dir)), args.save_rollouts)
    train_and_save(trainer, checkpoint, trainer.release_engine)


if __name__ == "__main__":
    run_script(GRPO.name, main)
