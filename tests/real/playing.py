"""Code for the tests of the real model: evaluation, SFT and training."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.run_policy import main as run_policy
from eval.runs.naming import run_folder
from longvideo_env.records.trajectory import Trajectory, read_trajectories
from train.merge_adapter import main as merge_adapter

ROOT = Path(__file__).parents[2]
REAL = ROOT / "runs" / "real"
MODEL = REAL / "smollm2"
STEPS = 3
LORA = (
    *("--dtype", "float32", "--use_peft", "--lora_r", "16", "--lora_alpha", "32"),
    *("--lora_target_modules", "all-linear"),
)
COMMON = (
    *("--dataset", "mini", "--max_turns", "3", "--use_cpu", "--bf16", "false"),
    *("--gradient_checkpointing", "false", "--report_to", "none", "--save_strategy", "no"),
    *("--logging_steps", "1", "--disable_tqdm", "true"),
)
TEACHING = (
    *LORA,
    *COMMON,
    *("--teacher", "teacher:mini:0:0", "--teacher_episodes", "24"),
    *("--num_train_epochs", "1", "--per_device_train_batch_size", "2"),
    *("--learning_rate", "1e-3", "--lr_scheduler_type", "constant_with_warmup"),
    *("--warmup_steps", "2"),
)
GRPO = (
    *LORA,
    *COMMON,
    *("--num_generations", "4", "--per_device_train_batch_size", "4", "--limit", "8"),
    *("--max_turn_tokens", "24", "--max_steps", str(STEPS), "--learning_rate", "1e-4"),
    *("--temperature", "1.0", "--lora_dropout", "0"),
)
"""Three steps on four episodes each. With dropout the trainer's log-probs are not generation's."""

GRPO_SHOWN = ("reward", "episodes/accuracy", "episodes/malformed", "episodes/turns", "grad_norm")


@dataclass(frozen=True)
class Played:
    """The result of a policy's run."""

    episodes: list[Trajectory]
    summary: dict[str, Any]

    @property
    def well_formed(self) -> float:
        """The share of turns with exactly one action."""
        return 1 - float(self.summary["malformed_rate"])

    @property
    def replies(self) -> list[list[tuple[int, ...]]]:
        """The sampled tokens, by episode and turn."""
        return [[s.token_ids or () for s in t.segments if s.sampled] for t in self.episodes]


Play = Callable[..., Played]


def play_greedily(
    out: Path, spec: str, *flags: str, limit: int = 6, show: int = 1, tokens: int = 40
) -> Played:
    """Play questions with `eval/run_policy.py`, and print the result."""
    code = run_policy(
        [
            *("--policy", spec, "--out", str(out), "--limit", str(limit)),
            *("--max_turns", "3", "--max_turn_tokens", str(tokens), *flags),
        ]
    )
    assert code == 0, "an episode failed"
    folder = run_folder(out, spec)
    episodes = list(read_trajectories(folder / "episodes.jsonl"))
    played = Played(episodes, json.loads((folder / "summary.json").read_text()))
    say(spec, flags, played, show)
    return played


def say(spec: str, flags: Sequence[str], played: Played, show: int) -> None:
    finishes = Counter(turn.finish for t in played.episodes for turn in t.turns)
    kind = spec.partition(":")[0]
    print(f"{kind}:{Path(spec).name} {' '.join(flags)}: {len(played.episodes)} questions, ", end="")
    print(f"malformed {played.summary['malformed_rate']:.3f} of turns, finish {dict(finishes)}, ")
    print(f"  kinds {played.summary['malformed_kinds']}, named {played.summary['named_options']}")
    for trajectory in played.episodes[:show]:
        print(f"  {trajectory.question} {trajectory.options}")
        for segment in trajectory.segments:
            if segment.sampled:
                print(f"    {segment.text!r}")


def teach(model: Path, folder: Path) -> Path:
    """The model after a short LoRA training on 24 episodes of a teacher, merged.

    It stays in the folder for the tests in another environment. It is made again if the code, the
    options or the model have changed.
    """
    key, mark = _key_of_teaching(model), folder / "key.txt"
    merged = folder / "merged"
    if not (mark.is_file() and mark.read_text() == key):
        from train.sft import main as sft

        mark.unlink(missing_ok=True)
        adapter = folder / "adapter"
        flags = ("--model_name_or_path", str(model), "--output_dir", str(adapter))
        sft([*flags, "--overwrite", *TEACHING])
        merge(model, adapter, merged)
        mark.write_text(key)
    return merged


def _key_of_teaching(model: Path) -> str:
    found = hashlib.sha256((model / "model.safetensors").read_bytes())
    for room in ("longvideo_env", "agents", "train"):
        for file in sorted((ROOT / room).rglob("*.py")):
            found.update(file.read_bytes())
    packages = [f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft")]
    found.update(json.dumps([TEACHING, packages]).encode())
    return found.hexdigest()


def merge(base: Path, adapter: Path, out: Path) -> Path:
    flags = ["--base", str(base), "--adapter", str(adapter), "--out", str(out)]
    assert merge_adapter([*flags, "--dtype", "float32"]) == 0
    return out


def train_by_command(model: Path, folder: Path, *flags: str) -> list[dict[str, Any]]:
    """Three steps of `train/grpo.py` in a separate process. Returns the log of each step."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", str(ROOT / "train" / "grpo.py"), *GRPO),
            *("--model_name_or_path", str(model), "--output_dir", str(folder), *flags),
        ],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return steps_of(folder)


def steps_of(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines][:STEPS]
