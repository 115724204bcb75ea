"""`train/grpo.py --preflight`: check a configuration before any GPU time is spent.

    python train/grpo.py --config configs/grpo/qwen2.5-3b.yaml --dataset DATA_FOLDER --preflight \
        --accelerate-config configs/accelerate/zero2.yaml --gpu-memory-gb 80

It needs no GPU and no weights: the model's `config.json` is enough. Without the model's tokenizer,
token counts are estimated. Exit code 0: the plan is sound. Exit code 3: it is not, and the table
says how to fix it.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from transformers import AutoConfig, TrainingArguments
from trl import GRPOConfig, ModelConfig

from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.typeset import output_console
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.forms import open_questions
from longvideo_env.errors import InputError, SpecError
from longvideo_env.game.game import Game
from longvideo_env.tools.registry import build_toolbox
from train.options.grpo_options import GrpoArguments, Options, check, parse
from train.planning.activations import Rows, traced_bytes
from train.planning.lengths import count_lengths, estimate_tokens
from train.planning.memory import (
    GIB,
    Shape,
    Sharding,
    activations_bytes,
    in_gib,
    read_shape,
    states_bytes,
)

PING_S = 5.0
OVERHEAD = 0.08
"""Share of a GPU's memory for CUDA, NCCL and fragmentation."""


@dataclass(frozen=True)
class Line:
    """One line of the plan.

    Attributes:
        name: The subject.
        text: The finding.
        mend: How to fix it. Empty if nothing is wrong.
    """

    name: str
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Plan:
    """A configuration with its model and questions.

    Attributes:
        args: Options of the script.
        env: Options of the environment.
        training: Options of TRL.
        model: Options of the model.
        config: The model's `config.json`, as read by transformers.
        shape: The model's size.
        sharding: How the run is spread.
        dataset: The questions.
    """

    args: GrpoArguments
    env: EnvConfig
    training: GRPOConfig
    model: ModelConfig
    config: Any
    shape: Shape
    sharding: Sharding
    dataset: Dataset


def read_sharding(path: str | None) -> Sharding:
    """Read processes and ZeRO from an accelerate config. One process without a config.

    Raises:
        SpecError: The config cannot be read.
    """
    if path is None:
        return Sharding()
    try:
        options = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        zero = options.get("deepspeed_config", {})
        return Sharding(
            int(options["num_processes"]),
            int(zero.get("zero_stage", 0)),
            zero.get("offload_optimizer_device", "none") != "none",
            zero.get("offload_param_device", "none") != "none",
        )
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"accelerate_config {path}: not an accelerate config: {error}") from error


def read_options(argv: Sequence[str]) -> tuple[Options, Sharding]:
    """Parse the options as on the machine of the run, with all its processes.

    Raises:
        SpecError: An option is invalid, or the batch cannot be divided among the processes.
    """
    path = _flag(argv, "--accelerate-config")
    sharding = read_sharding(path)
    spread = patch.object(TrainingArguments, "world_size", property(lambda _: sharding.processes))
    with spread:
        try:
            # This machine may have no GPU, so read the options for a CPU.
            options = parse([*argv, "--use-cpu", "true"])
        except SpecError as error:
            if "divisible" in str(error):
                raise SpecError(
                    f"{error} (with {sharding.processes} processes). Fix: make "
                    "per_device_train_batch_size * processes * gradient_accumulation_steps a "
                    "multiple of num_generations."
                ) from error
            raise
    return options, sharding


def make_plan(options: Options, sharding: Sharding) -> Plan:
    """Read the model's config and the questions that the options name.

    Raises:
        SpecError: The model or a tool does not exist.
        DataError: The questions cannot be read.
    """
    args, env, training, model = options
    check(args, env, training, model, packages=False)
    env.text_only("--preflight, which counts tokens of text,")
    try:
        config = AutoConfig.from_pretrained(
            str(model.model_name_or_path),
            revision=model.model_revision,
            trust_remote_code=training.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"model_name_or_path: no config.json at {model.model_name_or_path!r}: "
            f"{' '.join(str(error).split())}"
        ) from error
    shape = read_shape(config, lora_r=model.lora_r if model.use_peft else None)
    dataset = open_questions(env)
    build_toolbox(env, dataset)
    return Plan(args, env, training, model, config, shape, sharding, dataset)


def inspect(plan: Plan) -> Iterator[Line]:
    """Check the plan and yield its lines."""
    shape, spread = plan.shape, plan.sharding
    share = shape.trained / shape.weights
    how = f"LoRA r={plan.model.lora_r}, {share:.2%} trained" if plan.model.use_peft else "full"
    yield Line("model", f"{shape.name}, {shape.weights / 1e9:.2f} B weights, {how}")
    offload = [
        name
        for name, is_so in (
            ("optimizer", spread.offload_optimizer),
            ("parameters", spread.offload_parameters),
        )
        if is_so
    ]
    offloaded = f", offloads {' and '.join(offload)}" if offload else ""
    yield Line("processes", f"{spread.processes}, ZeRO stage {spread.zero_stage}{offloaded}")
    yield _batch(plan)
    yield from _lengths(plan)
    yield from _memory(plan)
    yield from _tools(plan)
    yield _disk(plan)


def _batch(plan: Plan) -> Line:
    training = plan.training
    episodes = training.generation_batch_size or 0
    groups = episodes // (training.num_generations or 1)
    uses = (training.steps_per_generation or 1) * training.num_iterations
    updates = max(1, uses // training.gradient_accumulation_steps)
    text = (
        f"{groups} questions x {training.num_generations} = {episodes} episodes, "
        f"{episodes // plan.sharding.processes} per process, {updates} updates with each batch; "
        f"{len(plan.dataset.tasks)} questions"
    )
    if len(plan.dataset.tasks) < groups:
        return Line(
            "batch", text, "lower --per-device-train-batch-size, or raise --num-generations."
        )
    return Line("batch", text)


def _lengths(plan: Plan) -> Iterator[Line]:
    count, known = _counter(plan)
    game = Game.from_config(plan.env)
    lengths = count_lengths(plan.dataset, game, count)
    how = "counted" if known else "estimated without a tokenizer"
    yield Line(
        "prompt",
        f"{lengths.prompt_median} tokens at the median, {lengths.prompt_max} at most "
        f"({how}, {lengths.n_questions} questions at their longest clip)",
    )
    longest = lengths.episode_max(game.max_turns, plan.args.max_turn_tokens)
    bound, name = _context(plan)
    text = (
        f"{longest} tokens at most: {game.max_turns} turns of {plan.args.max_turn_tokens}, "
        f"{lengths.observation_max} between them; {name} holds {bound}"
    )
    mend = ""
    if longest > bound:
        room = bound - lengths.prompt_max - (game.max_turns - 1) * lengths.observation_max
        fits = room // game.max_turns
        advice = f"max_turn_tokens {fits}" if fits > 0 else "fewer max_turns or a smaller window"
        mend = f"take {advice}, or raise {name}. Longer episodes end for lack of context."
    yield Line("episode", text, mend)


def _context(plan: Plan) -> tuple[int, str]:
    bounds = [(plan.shape.context, "the model's context")]
    if plan.args.max_context_tokens is not None:
        bounds.append((plan.args.max_context_tokens, "max_context_tokens"))
    if plan.training.use_vllm and plan.training.vllm_max_model_length is not None:
        bounds.append((plan.training.vllm_max_model_length, "vllm_max_model_length"))
    return min(bounds)


def _counter(plan: Plan) -> tuple[Callable[[str], int], bool]:
    """A function that counts tokens, and whether it uses the model's own tokenizer."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(plan.model.model_name_or_path)
        if tokenizer.encode("token", add_special_tokens=False):
            return lambda text: len(tokenizer.encode(text, add_special_tokens=False)), True
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return estimate_tokens, False


def _memory(plan: Plan) -> Iterator[Line]:
    training, shape = plan.training, plan.shape
    gpu = plan.args.gpu_memory_gb * 1e9
    # With LoRA the reference is the model without its adapter, so it takes no memory.
    reference = training.beta > 0 and not plan.model.use_peft
    lora = plan.model.use_peft
    states = states_bytes(shape, plan.sharding, lora=lora, reference=reference)
    tokens = min(_context(plan)[0], _row_tokens(plan))
    batch = training.per_device_train_batch_size
    rows = Rows(batch, tokens, training.gradient_checkpointing, plan.model.lora_r if lora else None)
    how = "traced"
    try:
        states["activations"] = float(traced_bytes(plan.config, rows))
    except SpecError as error:
        how = f"by arithmetic, because the trace failed ({error})"
        states["activations"] = activations_bytes(
            shape, batch, tokens, checkpointing=training.gradient_checkpointing
        )
    colocated = training.use_vllm and training.vllm_mode == "colocate"
    needed = sum(states.values())
    share = training.vllm_gpu_memory_utilization if colocated else 0.0
    asleep = colocated and training.vllm_enable_sleep_mode
    left = gpu * (1 - OVERHEAD - (0.0 if asleep else share))
    parts = ", ".join(f"{name} {in_gib(size)}" for name, size in states.items())
    mend = ""
    if needed > left:
        mend = (
            "take a higher ZeRO stage or offload, LoRA, gradient_checkpointing, a smaller "
            "per_device_train_batch_size, or less vllm_gpu_memory_utilization."
        )
    text = (
        f"{in_gib(needed)} per GPU, {in_gib(left)} left ({parts}, {how}: {batch} x {tokens} tokens)"
    )
    yield Line("training", text, mend)
    if colocated:
        yield _engine(plan, gpu * share)


def _row_tokens(plan: Plan) -> int:
    game = Game.from_config(plan.env)
    lengths = count_lengths(plan.dataset, game, _counter(plan)[0], limit=50)
    return lengths.episode_max(game.max_turns, plan.args.max_turn_tokens)


def _engine(plan: Plan, share: float) -> Line:
    shape, ways = plan.shape, plan.training.vllm_tensor_parallel_size
    weights = shape.weights * 2 / ways
    cache = share - weights - GIB
    held, _ = _context(plan)
    tokens = int(cache * ways / shape.cache_per_token)
    text = f"{in_gib(share)}: weights {in_gib(weights)}, cache for {max(tokens, 0)} tokens"
    if tokens < held:
        return Line(
            "vLLM",
            text,
            "raise vllm_gpu_memory_utilization or vllm_tensor_parallel_size, or lower "
            f"vllm_max_model_length. One episode may take {held} tokens.",
        )
    return Line("vLLM", f"{text}, {tokens / held:.1f} episodes of full length")


def _tools(plan: Plan) -> Iterator[Line]:
    yield Line("tools", f"grounding {plan.env.grounding}, vision {plan.env.vision}")
    places = re.findall(r"https?://[^\s,;]+", f"{plan.env.grounding} {plan.env.vision}")
    if plan.training.use_vllm and plan.training.vllm_mode == "server":
        training = plan.training
        url = f"http://{training.vllm_server_host}:{training.vllm_server_port}"
        places.append(training.vllm_server_base_url or url)
    for place in dict.fromkeys(places):
        yield _ping(place)


def _ping(url: str) -> Line:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=PING_S):
            return Line("endpoint", f"{url} answers")
    except OSError as error:
        return Line("endpoint", f"{url}: {error}", "start it, or correct its address.")


def _disk(plan: Plan) -> Line:
    training = plan.training
    # A checkpoint holds the weights, and the optimizer's state of the trained weights.
    weights = plan.shape.trained * 2 if plan.model.use_peft else plan.shape.weights * 2
    size = weights + plan.shape.trained * 12
    kept = 0
    if training.save_strategy != "no":
        made = max(1, int(training.max_steps // max(training.save_steps, 1)))
        kept = min(made, training.save_total_limit or made) + 1
    folder = Path(str(training.output_dir)).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    needed = kept * size + weights
    text = f"{kept} checkpoints of {in_gib(size)}, {in_gib(free)} free"
    if needed > free:
        return Line("disk", text, f"free {in_gib(needed - free)}, or lower save_total_limit.")
    return Line("disk", text)


def show(lines: Sequence[Line], console: Console) -> None:
    """Print the plan as a table, and the fixes below it."""
    table = Table(title="Plan")
    for name in ("state", "what", "finding"):
        table.add_column(name)
    for line in lines:
        mark = "[red]to fix[/]" if line.mend else "[green]ok[/]"
        table.add_row(mark, line.name, escape(line.text))
    console.print(table)
    for line in lines:
        if line.mend:
            console.print(f"{line.name}: {line.text}. Fix: {line.mend}", markup=False)


def run(argv: Sequence[str]) -> int:
    """Check a command line of `train/grpo.py`. Returns the exit code.

    Raises:
        SpecError: An option is invalid.
        DataError: The questions cannot be read.
    """
    plan = make_plan(*read_options(argv))
    lines = list(inspect(plan))
    show(lines, output_console())
    return EXIT_FINDINGS if any(line.mend for line in lines) else EXIT_DONE


def _flag(argv: Sequence[str], name: str) -> str | None:
    for i, word in enumerate(argv):
        option, equals, value = word.partition("=")
        if option.replace("_", "-") == name:
            return value if equals else next(iter(argv[i + 1 : i + 2]), None)
    return None
