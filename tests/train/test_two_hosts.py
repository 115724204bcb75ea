"""`accelerate launch --num_machines 2` over a network of its own, killed and resumed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from two_hosts import run_on_both, two_hosts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600


def losses(folder: Path) -> dict[int, float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["step"]: record["loss"] for record in map(json.loads, lines) if "loss" in record}


def test_two_machines_train_and_go_on_after_one_was_killed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(out: str, *more: str) -> list[str]:
        return [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--config_file", str(ROOT / "configs/accelerate/cpu_zero2.yaml")),
            *("--num_machines", "2", "--machine_rank", "{rank}", "--main_process_ip", "{first}"),
            *("--main_process_port", "29500", str(ROOT / "tests/train/two_hosts_grpo.py")),
            *("--config", str(ROOT / "configs/grpo/tiny.yaml"), "--disable_tqdm", "true"),
            *("--model_name_or_path", str(tiny_model), "--output_dir", str(tmp_path / out)),
            *("--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2"),
            *("--learning_rate", "0.01", *more),
        ]

    try:
        with two_hosts() as hosts:
            whole = run_on_both(hosts, command("whole"), TIMEOUT_S)
            monkeypatch.setenv("DIES_AT", "3")
            killed = run_on_both(hosts, command("killed"), TIMEOUT_S)
            monkeypatch.delenv("DIES_AT")
            resume = command("killed", "--resume_from_checkpoint", "true")
            again = run_on_both(hosts, resume, TIMEOUT_S)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    assert [code for code, _ in whole] == [0, 0], [said[-2000:] for _, said in whole]
    assert all(code for code, _ in killed), "the host that was left over went on by itself"
    assert [code for code, _ in again] == [0, 0], [said[-2000:] for _, said in again]
    assert sorted(losses(tmp_path / "whole")) == [1, 2, 3, 4]
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
