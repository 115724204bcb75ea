"""What playing on while the update runs is worth: TRL's `AsyncGRPOTrainer` beside `train/grpo.py`.

    OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
        .venv-vllm/bin/python benchmarks/one_step_ahead.py --steps 40

On a CPU. Both train the same tiny model, which calls `answer` with any option, on the same eight
questions of `mini`, by LoRA, against a `vllm serve` of their own, which gets the adapters as files.
Printed are seconds a step (from the second step on), their ratio, and rewards by fifths of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Also in the process that plays, which imports this file. A file beside it is named as a package.
sys.path[:] = [str(ROOT), *(path for path in sys.path if path != str(ROOT / "benchmarks"))]

from transformers import TrainerCallback  # noqa: E402 - behind the path

QUESTIONS, ROWS, GROUP, RANK, REPLY = 8, 16, 4, 8, 80
RATE = 1e-2
SERVER = (
    *("--enable-lora", "--max-lora-rank", str(RANK), "--max-loras", "3"),
    *("--logprobs-mode", "processed_logprobs", "--max-model-len", "4096"),
    *("--max-num-batched-tokens", "16384", "--no-enable-chunked-prefill"),
)
VARIABLES = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}


class Clock(TrainerCallback):
    """Keeps when each step was logged, and its reward."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Called by the trainer."""
        if "reward" in logs:
            lag = logs.get("sample/staleness_max", 0.0)
            self.steps.append({"at_s": time.time(), "reward": logs["reward"], "lag": lag})


def train_here(model: str, server: str, steps: int, folder: Path) -> Clock:
    """`train/grpo.py`: it plays a batch, then updates."""
    from train.grpo import prepare
    from train.options.grpo_options import parse
    from train.options.script import train_and_save

    flags = [
        *("--model_name_or_path", model, "--output_dir", str(folder), "--dataset", "mini"),
        *("--limit", str(QUESTIONS), "--protocol", "functions", "--max_turns", "2"),
        *("--max_turn_tokens", str(REPLY), "--num_generations", str(GROUP), "--use_cpu"),
        *("--per_device_train_batch_size", str(ROWS), "--max_steps", str(steps), "--bf16", "false"),
        *("--learning_rate", str(RATE), "--lr_scheduler_type", "constant", "--save_strategy", "no"),
        *("--use_peft", "--lora_r", str(RANK), "--lora_alpha", "8", "--lora_dropout", "0"),
        *("--lora_target_modules", "all-linear", "--disable_tqdm", "true", "--dtype", "float32"),
        *("--use_vllm", "true", "--vllm_mode", "server", "--vllm_server_base_url", server),
        *("--send_adapter", "true", "--gradient_checkpointing", "false", "--report_to", "none"),
    ]
    trainer = prepare(*parse(flags))
    clock = Clock()
    trainer.add_callback(clock)
    train_and_save(trainer, None, trainer.release_engine)
    return clock


def train_ahead(model: str, server: str, steps: int, folder: Path) -> Clock:
    """TRL's asynchronous trainer, at most one update ahead."""
    from peft import LoraConfig
    from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer

    from longvideo_env.integrations.trl import LongTVQA

    spec = LongTVQA(dataset="mini", split="train", limit=QUESTIONS, max_turns=2)
    clock = Clock()
    AsyncGRPOTrainer(
        model,
        args=AsyncGRPOConfig(
            str(folder),
            vllm_server_base_url=server,
            max_steps=steps,
            num_generations=GROUP,
            per_device_train_batch_size=ROWS,
            gradient_accumulation_steps=1,
            token_budget=0,
            max_staleness=1,
            learning_rate=RATE,
            max_completion_length=REPLY,
            max_tool_calling_iterations=1,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=False,
            use_cpu=True,
        ),
        train_dataset=spec.train_dataset,
        peft_config=LoraConfig(r=RANK, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear"),
        environment_factory=spec.environment_factory,
        callbacks=[clock],
    ).train()
    return clock


WAYS = {"here": train_here, "ahead": train_ahead}


def measure(way: str, model: Path, steps: int, folder: Path) -> list[dict[str, float]]:
    """Train in a process of its own, against a server of its own."""
    from tests.vllm_serve import serving

    on_cpu = ROOT / "tests" / "longvideo_env" / "integrations" / "trl_on_cpu.py"
    with serving(model, folder / f"{way}.log", *SERVER, **VARIABLES) as server:
        command = [str(on_cpu)] if way == "ahead" else []
        command += [str(Path(__file__).resolve()), "--way", way, "--steps", str(steps)]
        command += ["--model", str(model), "--server", server, "--out", str(folder / way)]
        subprocess.run(
            [sys.executable, "-W", "ignore", *command],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    found: list[dict[str, float]] = json.loads((folder / f"{way}.json").read_text())
    return found


def report(way: str, steps: list[dict[str, float]]) -> float:
    """Print one run; returns its seconds a step."""
    rate = (steps[-1]["at_s"] - steps[0]["at_s"]) / (len(steps) - 1)
    size = -(-len(steps) // 5)
    rewards = [step["reward"] for step in steps]
    parts = [rewards[i : i + size] for i in range(0, len(rewards), size)]
    curve = " ".join(f"{sum(part) / len(part):.3f}" for part in parts)
    lag = sum(step["lag"] for step in steps) / len(steps)
    print(f"{way:6} {rate:6.2f} s a step, reward by fifths {curve}, {lag:.2f} updates behind")
    return rate


def main() -> None:
    """Measure both, or, with `--way`, train in this process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        clock = WAYS[args.way](args.model, args.server, args.steps, args.out)
        args.out.with_suffix(".json").write_text(json.dumps(clock.steps))
        return
    from tests.longvideo_env.integrations.calling_model import make_calling_model

    with tempfile.TemporaryDirectory() as scratch:
        model = make_calling_model(Path(scratch) / "model")
        runs = {way: measure(way, model, args.steps, Path(scratch)) for way in WAYS}
    rates = [report(way, steps) for way, steps in runs.items()]
    print(f"ahead is {rates[0] / rates[1]:.2f} times as fast")


if __name__ == "__main__":
    main()
