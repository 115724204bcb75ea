"""Two processes under DeepSpeed ZeRO on the CPU. The first run compiles an operator."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300


def launch(
    script: str,
    *flags: str,
    env: dict[str, str] | None = None,
    stage: int = 3,
    config: str = "tiny",
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", f"configs/accelerate/cpu_zero{stage}.yaml", script]
    command += ["--config", f"configs/grpo/{config}.yaml", "--disable_tqdm", "true", *flags]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", **(env or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


@pytest.fixture(scope="module")
def wide_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with wide layers. ZeRO-3 does not shard tensors under 100,000 numbers."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    config = AutoConfig.from_pretrained(tiny_model)
    config.intermediate_size = 2048
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig.from_pretrained(tiny_model)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("gather", ["true", "false"])
def test_ranks_whose_episodes_differ_in_turns_do_not_hang(
    gather: str, wide_model: Path, tmp_path: Path
) -> None:
    done = launch(
        "tests/train/zero3_uneven.py",
        *("--model_name_or_path", str(wide_model), "--output_dir", str(tmp_path)),
        *("--max_steps", "2", "--ds3_gather_for_generation", gather),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # If each forward is a collective, rank 0 takes part in all three rounds of rank 1.
    rounds = 1 if gather == "true" else 3
    for step in (1, 2):
        assert f"rank 0 turns [1, 1, 1, 1] rounds {rounds * step}" in done.stdout
        assert f"rank 1 turns [3, 3, 3, 3] rounds {3 * step}" in done.stdout


def test_a_rank_that_crashes_takes_the_others_with_it(wide_model: Path, tmp_path: Path) -> None:
    done = launch(
        "tests/train/zero3_uneven.py",
        *("--model_name_or_path", str(wide_model), "--output_dir", str(tmp_path)),
        *("--max_steps", "2", "--ds3_gather_for_generation", "false"),
        env={"UNEVEN_CRASH": "1"},
    )
    assert done.returncode != 0
    assert "RuntimeError: rank 1 crashes" in done.stderr


def test_trains_on_real_questions_and_saves_the_whole_policy(
    shared_data: Path, wide_model: Path, tmp_path: Path
) -> None:
    done = launch(
        "train/grpo.py",
        *("--dataset", str(shared_data / "tvqa_plus_dev"), "--max_steps", "2"),
        *("--model_name_or_path", str(wide_model), "--output_dir", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    AutoTokenizer.from_pretrained(tmp_path)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path)
    start = AutoModelForCausalLM.from_pretrained(wide_model)
    assert policy.num_parameters() == start.num_parameters(), "the shards were not gathered"


def test_held_out_questions_and_groups_are_shared_by_the_processes(
    wide_model: Path, tmp_path: Path
) -> None:
    # Three questions on two processes that meet at each forward. One group is on both.
    done = launch(
        "train/grpo.py",
        *("--eval_strategy", "steps", "--eval_steps", "1", "--eval_split", "val"),
        *("--eval_limit", "3", "--ds3_gather_for_generation", "false"),
        *("--num_generations", "8", "--credit", "state", "--max_steps", "2"),
        *("--model_name_or_path", str(wide_model), "--output_dir", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["eval/n"] for record in records if "eval/n" in record] == [3, 3]
    assert all(r["credit/share_of_episodes"] == 1 for r in records if "reward" in r)


def test_bad_options_end_all_ranks(tmp_path: Path) -> None:
    done = launch("train/grpo.py", "--max_turns", "0", "--output_dir", str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.count("longvideo-env train: max_turns must be at least 1, got 0.") == 1
    assert "exitcode  : 2" in done.stderr


LORA = ("--use_peft", "true", "--lora_r", "8", "--lora_target_modules", "all-linear")


def rewards(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["reward"] for record in map(json.loads, lines) if "reward" in record]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("stage", [2, 3])
def test_a_run_that_is_resumed_logs_the_same_rewards(
    stage: int, lora: bool, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    flags = [
        *("--max_steps", "5", "--save_steps", "2", "--save_total_limit", "9"),
        *("--per_device_train_batch_size", "8", "--learning_rate", "0.001"),
        *(LORA if lora else ()),
    ]
    done = launch("train/grpo.py", *flags, "--output_dir", str(whole), stage=stage, config="mini")
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.copytree(whole / "checkpoint-2", resumed / "checkpoint-2")
    flags += ["--output_dir", str(resumed), "--resume_from_checkpoint", "true"]
    done = launch("train/grpo.py", *flags, stage=stage, config="mini")
    assert done.returncode == 0, done.stderr[-3000:]
    straight = rewards(whole)
    assert len(straight) == 5
    assert rewards(resumed) == pytest.approx(straight[2:], abs=1e-4)
    assert (resumed / ("adapter_config.json" if lora else "config.json")).is_file()


@pytest.mark.parametrize("gather", ["true", "false"])
def test_no_hang_in_twenty_batches_of_random_lengths(gather: str, tmp_path: Path) -> None:
    done = launch(
        "tests/train/zero3_random.py",
        *("--output_dir", str(tmp_path), "--max_steps", "20", "--per_device_train_batch_size", "8"),
        *("--save_strategy", "no", "--ds3_gather_for_generation", gather),
        config="mini",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    turns = re.findall(r"rank (\d) step (\d+) turns ([\d ]+)\.", done.stdout)
    assert len(turns) == 40, "both ranks played all twenty batches"
    by_rank = [{step: most for rank, step, most in turns if rank == which} for which in "01"]
    assert by_rank[0] != by_rank[1], "the ranks' episodes differ in length"
