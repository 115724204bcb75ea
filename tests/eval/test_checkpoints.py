from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agents.policies.starter import resolve_model
from eval.run_policy import main
from eval.runs.checkpoints import expand_policies
from longvideo_env.errors import SpecError


def test_checkpoints_are_named_once_in_order_of_steps(tmp_path: Path) -> None:
    for step in (100, 25, 50):
        (tmp_path / f"checkpoint-{step}").mkdir()
    specs = [f"hf:{tmp_path}/checkpoint-{step}" for step in (25, 50, 100)]
    assert expand_policies([f"hf:{tmp_path}/checkpoint-*"], str(tmp_path)) == specs
    assert expand_policies(["random"], None) == ["random"]
    with pytest.raises(SpecError, match="no folder matches"):
        expand_policies([], str(tmp_path / "none"))


@pytest.mark.slow
def test_each_checkpoint_is_played_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    for step in (1, 2):
        shutil.copytree(resolve_model("mini-starter"), tmp_path / "grpo" / f"checkpoint-{step}")
    args = ["--checkpoints", str(tmp_path / "grpo"), "--out", str(tmp_path / "out"), "--limit", "3"]
    args += ["--dataset", "mini:videos=2", "--no-instructions", "--max_turn_tokens", "32"]
    for _ in range(2):  # the second call resumes
        assert main(args) == 0
    assert (tmp_path / "out" / "accuracy_by_step.png").is_file()
    assert "grpo step 2" in capsys.readouterr().out


def test_a_checkpoint_of_lora_names_its_base(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b"}')
    assert expand_policies([], str(tmp_path)) == [f"hf:a/b+{folder}"]
