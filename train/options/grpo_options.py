"""The options of `train/grpo.py`, as flags or in a YAML file with the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from agents.policies.starter import STARTER
from longvideo_env.config import EnvConfig
from longvideo_env.errors import SpecError
from longvideo_env.game.reward import parse_reward
from train.options.start import Script, check_dataset, start_parser

if TYPE_CHECKING:
    from trl import GRPOConfig, ModelConfig

DESCRIPTION = """Train a policy with GRPO on episodes of the environment.

    accelerate launch train/grpo.py
    accelerate launch train/grpo.py --dataset DIR --model-name-or-path PATH --output-dir runs/mine

Without options it trains the starter policy on the world `mini`, on a GPU if there is one."""

STARTER_DEFAULTS: dict[str, Any] = {
    "dataset": "mini:compare=0.3",
    "instructions": False,
    "max_turn_tokens": 32,
    "per_device_train_batch_size": 64,
    "learning_rate": 2e-4,
    "warmup_steps": 5,
    "max_steps": 150,
    "save_steps": 25,
    "gradient_checkpointing": False,
}
"""Settings for the starter, as in configs/grpo/mini.yaml. It was trained without instructions."""


@dataclass
class GrpoArguments:
    """Options of this script, besides those of the environment and of TRL."""

    max_turn_tokens: int = field(
        default=512, metadata={"help": "Most tokens per turn (the paper trains with 1500)."}
    )
    max_context_tokens: int | None = field(
        default=None,
        metadata={"help": "Most tokens per episode. By default the model's context length."},
    )
    limit: int | None = field(
        default=None, metadata={"help": "Train on the first N questions only."}
    )
    questions: str | None = field(
        default=None,
        metadata={
            "help": "Train on the questions of this prompt set (train/planning/prompt_sets.py)."
        },
    )
    rollout_concurrency: int = field(
        default=64,
        metadata={
            "help": "Most episodes in flight per process. It is also the largest generation batch."
        },
    )
    rollouts: str = field(
        default="overlapped",
        metadata={
            "help": "overlapped: while some episodes wait for tools, others generate. lockstep: "
            "one batch is generated when all episodes wait for a reply. The same seed then gives "
            "the same bits even if tools take different times. vLLM is always overlapped, except "
            "when one engine spans several GPUs."
        },
    )
    send_adapter: bool = field(
        default=False,
        metadata={
            "help": "With vllm_mode server and use_peft: save the LoRA adapter under output_dir "
            "and let the server load it, instead of sending all weights over NCCL. The server "
            "must read that folder and run with --enable-lora."
        },
    )
    tool_timeout_s: float = field(
        default=120.0,
        metadata={
            "help": "Most seconds for a tool call. A slower call ends its episode as failed, "
            "without a reward. Keep it below --ddp-timeout."
        },
    )
    resample_zero_variance: bool = field(
        default=False,
        metadata={
            "help": "If all replies to a question got the same reward, play another question "
            "instead. More of a batch then teaches something. It costs extra rollouts, at most "
            "--resample-attempts times a batch."
        },
    )
    resample_attempts: int = field(
        default=2, metadata={"help": "With --resample-zero-variance: most attempts per batch."}
    )
    curriculum: bool = field(
        default=False,
        metadata={
            "help": "Draw questions by their share of right rollouts so far. Questions that are "
            "always or never answered right come less often."
        },
    )
    credit: str = field(
        default="episode",
        metadata={
            "help": "episode: all turns share the episode's advantage. turn: each turn but the "
            "last also gets credit for the reward it earned, compared with the same turn of the "
            "group's other episodes (MT-GRPO). state: each turn also gets credit for the "
            "discounted reward from it on, compared with all turns of the group that saw the same "
            "clips (GiGPO)."
        },
    )
    credit_weight: float = field(
        default=1.0, metadata={"help": "With --credit turn or state: weight of the turn's part."}
    )
    credit_discount: float = field(
        default=0.95,
        metadata={"help": "With --credit state: discount of later rewards, per turn."},
    )
    eval_dataset: str | None = field(
        default=None,
        metadata={
            "help": "With --eval-strategy: the dataset of the held-out questions. By default the "
            "training dataset."
        },
    )
    eval_split: str | None = field(
        default=None, metadata={"help": "With --eval-strategy: split of the held-out questions."}
    )
    eval_limit: int | None = field(
        default=None, metadata={"help": "With --eval-strategy: the most questions."}
    )
    eval_temperature: float | None = field(
        default=None,
        metadata={
            "help": "With --eval-strategy: sampling temperature. 0 takes the likeliest token. By "
            "default as in training."
        },
    )
    eval_seed: int = field(
        default=0, metadata={"help": "With --eval-strategy: as --seed of eval/run_policy.py."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "With --load-best-model-at-end: stop after N evaluations without a better one."
        },
    )
    save_rollouts: str | None = field(
        default=None,
        metadata={
            "help": "Folder for every trajectory: JSON Lines packed with zstd, by step and "
            "process. `python -m longvideo_env.commands.audit FOLDER` checks them."
        },
    )
    log_trajectories_every: int = field(
        default=0,
        metadata={"help": "With W&B: log a table of a few whole trajectories every N steps."},
    )
    preflight: bool = field(
        default=False,
        metadata={"help": "Check the plan, print it and stop. Needs no GPU and no weights."},
    )
    accelerate_config: str | None = field(
        default=None,
        metadata={"help": "With --preflight: the accelerate config that the run will start with."},
    )
    gpu_memory_gb: float = field(
        default=80.0, metadata={"help": "With --preflight: memory of one GPU, in GB."}
    )
    overwrite: bool = field(
        default=False,
        metadata={"help": "If the output folder holds a run, empty it and start again."},
    )
    tiny_model_if_missing: bool = field(
        default=False,
        metadata={
            "help": "If the folder --model-name-or-path does not exist, put a tiny random model "
            "there."
        },
    )


GRPO = Script(
    name="train",
    description=DESCRIPTION,
    own=GrpoArguments,
    trl="grpo_config",
    output_dir="runs/grpo",
    model=STARTER,
    shown={
        "max_steps": "Updates of the weights. Default: by epochs; 150 with mini-starter.",
        "learning_rate": "Highest learning rate. Default: 1e-6; 2e-4 with mini-starter.",
        "num_generations": "Episodes of each question: the group of GRPO. Default: 8.",
        "per_device_train_batch_size": "Episodes of a process in a step, over all its questions. "
        "Default: 8; 64 with mini-starter.",
        "use_vllm": "Generate with vLLM.",
    },
    tables=True,
    check=lambda options, env: check_dataset(env),
)

ROLLOUTS = ("overlapped", "lockstep")
CREDITS = ("episode", "turn", "state")

REPORTERS = ("tensorboard", "trackio", "wandb")
"""Where curves may go. Each name is also the name of a package."""

Options: TypeAlias = "tuple[GrpoArguments, EnvConfig, GRPOConfig, ModelConfig]"


def parse(argv: Sequence[str]) -> Options:
    """Read flags and the YAML file.

    Raises:
        SpecError: An option is unknown, or its value is invalid.
    """
    from trl import GRPOConfig, ModelConfig  # slow, and --help does not need it

    from train.options.flags import parse_options

    defaults = {"output_dir": GRPO.output_dir, "model_name_or_path": STARTER, "logging_steps": 1}
    early, _ = start_parser(GRPO).parse_known_args(argv)
    if early.model_name_or_path == STARTER:
        defaults |= STARTER_DEFAULTS
    groups = (GrpoArguments, EnvConfig, GRPOConfig, ModelConfig)
    args, env, training, model = parse_options(
        groups, argv, prog=GRPO.prog, description=DESCRIPTION, defaults=defaults, tables=GRPO.tables
    )
    if training.load_best_model_at_end and training.metric_for_best_model in (None, "loss"):
        training.metric_for_best_model, training.greater_is_better = "eval_accuracy", True
    elif training.metric_for_best_model:
        # The log writes eval/accuracy, the trainer eval_accuracy.
        name = str(training.metric_for_best_model)
        training.metric_for_best_model = name.replace("eval/", "eval_")
    return args, env, training, model


def check(
    args: GrpoArguments,
    env: EnvConfig,
    training: GRPOConfig,
    model: ModelConfig,
    *,
    packages: bool = True,
) -> None:
    """Refuse options that do not work together, before anything is loaded.

    Args:
        args: Options of the script.
        env: Options of the environment.
        training: Options of TRL.
        model: Options of the model.
        packages: Whether the packages that the options need must be installed on this machine.

    Raises:
        SpecError: Names the problem, and what to do instead.
    """
    problems = {
        "give --model-name-or-path, a folder or a model's name.": not model.model_name_or_path,
        "use_vllm: vllm is not installed. Fix: pip install 'longvideo-env[vllm]'.": (
            packages and training.use_vllm and find_spec("vllm") is None
        ),
        f"rollouts must be one of {', '.join(ROLLOUTS)}, got {args.rollouts!r}.": (
            args.rollouts not in ROLLOUTS
        ),
        "tool_timeout_s must be above 0.": args.tool_timeout_s <= 0,
        "log_trajectories_every must be at least 0.": args.log_trajectories_every < 0,
        "leave use_transformers_continuous_batching off: episodes are generated turn by turn.": (
            training.use_transformers_continuous_batching
        ),
        "give the weights of reward terms in --reward, as in 'paper,validity=0.2'; leave "
        "reward_weights out.": training.reward_weights is not None,
        "min_p, repetition_penalty and generation_kwargs are not supported; use temperature, top_p "
        "and top_k.": (
            training.min_p is not None
            or training.repetition_penalty != 1
            or training.generation_kwargs is not None
        ),
        "send_adapter needs --use_vllm true --vllm_mode server and --use_peft.": (
            args.send_adapter
            and not (training.use_vllm and training.vllm_mode == "server" and model.use_peft)
        ),
        "send_adapter: a vLLM server takes plain LoRA only. Leave out lora_modules_to_save, "
        "lora_target_parameters and use_dora.": args.send_adapter
        and bool(model.lora_modules_to_save or model.lora_target_parameters or model.use_dora),
        "temperature must be above 0: a group needs different replies.": training.temperature <= 0,
        "give --eval-split, the split of the held-out questions.": (
            training.eval_strategy != "no" and not (args.eval_split or args.eval_dataset)
        ),
        "eval_limit must be at least 1.": args.eval_limit is not None and args.eval_limit < 1,
        "eval_temperature must be at least 0.": (
            args.eval_temperature is not None and args.eval_temperature < 0
        ),
        "early_stopping_patience needs --load-best-model-at-end true.": (
            args.early_stopping_patience is not None and not training.load_best_model_at_end
        ),
        "a policy that sees frames needs generation by transformers. Fix: give --use-vllm false, "
        "or --frames 0.": bool(env.frames and training.use_vllm),
        f"no term of the reward {env.reward!r} has a weight.": not parse_reward(env.reward),
        "rollout_concurrency must be at least 1.": args.rollout_concurrency < 1,
        "resample_attempts must be at least 1.": args.resample_attempts < 1,
        f"save_steps must be a multiple of {_steps_per_batch(training)}, the number of steps that "
        "one batch of episodes is used for. A checkpoint between them cannot resume exactly.": (
            training.save_strategy == "steps"
            and training.save_steps % _steps_per_batch(training) != 0
        ),
        f"credit must be one of {', '.join(CREDITS)}, got {args.credit!r}.": (
            args.credit not in CREDITS
        ),
        "credit_discount must be from 0 to 1.": not 0 <= args.credit_discount <= 1,
        "limit must be at least 1.": args.limit is not None and args.limit < 1,
    }
    problems |= {
        f"report_to {name}: the package is not installed. Fix: pip install {name}, or leave "
        "report_to at none (metrics.jsonl is always written).": find_spec(name) is None
        for name in REPORTERS
        if packages and name in (training.report_to or ())
    }
    for problem, is_so in problems.items():
        if is_so:
            raise SpecError(problem)


def _steps_per_batch(training: GRPOConfig) -> int:
    """Number of optimizer steps with one generated batch."""
    uses = (training.steps_per_generation or 1) * training.num_iterations
    return max(1, uses // training.gradient_accumulation_steps)
