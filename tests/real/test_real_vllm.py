"""The taught SmolLM2-135M with real vLLM on a CPU. `make test-real` runs it last."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval.run_policy import main as run_policy
from eval.runs.naming import run_folder
from longvideo_env import read_trajectories
from train.merge_adapter import main as merge_adapter

pytestmark = [pytest.mark.real, pytest.mark.vllm]

ROOT = Path(__file__).parents[2]
TAUGHT = ROOT / "runs" / "real" / "taught"
STEPS = 3


@pytest.fixture(scope="module", autouse=True)
def model() -> Path:
    if not (TAUGHT / "config.json").is_file():
        pytest.fail(f"there is no model in {TAUGHT}. Fix: make test-real, which makes it first.")
    return TAUGHT


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of GRPO in which TRL's engine in this process generates."""
    from train.grpo import prepare
    from train.options.grpo_options import parse
    from train.options.script import train_and_save

    folder = tmp_path_factory.mktemp("colocate") / "adapter"
    flags = [
        *("--model_name_or_path", str(model), "--output_dir", str(folder), "--dtype", "float32"),
        *("--use_peft", "--lora_r", "16", "--lora_alpha", "32"),
        *("--lora_target_modules", "all-linear", "--learning_rate", "1e-4"),
        *("--dataset", "mini", "--limit", "8", "--max_turns", "3", "--max_turn_tokens", "32"),
        *("--num_generations", "4", "--per_device_train_batch_size", "4"),
        *("--max_steps", str(STEPS), "--use_cpu", "--bf16", "false", "--report_to", "none"),
        *("--gradient_checkpointing", "false", "--save_strategy", "no", "--logging_steps", "1"),
        *("--use_vllm", "--vllm_mode", "colocate", "--vllm_max_model_length", "1536"),
        *("--disable_tqdm", "true"),
    ]
    trainer = prepare(*parse(flags))
    train_and_save(trainer, None, trainer.release_engine)
    return folder


def test_the_engine_has_the_trainers_weights_in_every_step(adapter: Path) -> None:
    lines = (adapter / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines][:STEPS]
    assert [record["step"] for record in records] == [1, 2, 3]
    for record in records:
        gap = record["sampling/sampling_logp_difference/max"]
        print(f"step {record['step']}: reward {record['reward']:.3f}, log-prob gap {gap:.1e}")
        assert record["episodes/failed"] == 0
        assert gap < 1e-3


def test_the_merged_adapter_replies_as_with_transformers(
    adapter: Path, model: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "merged"
    flags = ["--base", str(model), "--adapter", str(adapter), "--out", str(whole)]
    assert merge_adapter([*flags, "--dtype", "float32"]) == 0
    specs = [f"{kind}:{whole}" for kind in ("hf", "vllm")]
    done = run_policy(
        [
            *(flag for spec in specs for flag in ("--policy", spec)),
            *("--dataset", "mini", "--limit", "2", "--max_turns", "3", "--max_turn_tokens", "24"),
            *("--max_model_len", "1536", "--out", str(tmp_path / "out")),
        ]
    )
    assert done == 0
    replies = []
    for spec in specs:
        episodes = read_trajectories(run_folder(tmp_path / "out", spec, specs) / "episodes.jsonl")
        replies.append([[s.token_ids for s in t.segments if s.sampled] for t in episodes])
    assert replies[0] == replies[1]
