import json
from pathlib import Path

import pytest

from agents.policies.build import check_policy_spec
from agents.policies.starter import STARTER, resolve_model

FOLDER = Path(resolve_model(STARTER))


def test_other_names_are_left_alone():
    assert resolve_model("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    check_policy_spec(f"hf:{STARTER}")


def test_it_ships_whole_and_small():
    names = {file.name for file in FOLDER.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 2 * 2**20
    assert json.loads((FOLDER / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]


def test_its_card_says_how_to_make_it_and_names_no_path():
    card = (FOLDER / "README.md").read_text()
    assert "configs/sft/mini.yaml" in card
    for file in FOLDER.glob("*.json"):
        assert "/work" not in file.read_text()
        assert "/home" not in file.read_text()


@pytest.mark.slow
def test_it_plays_well_formed_and_knows_half_the_game(tmp_path):
    pytest.importorskip("torch")
    from eval.run_policy import main

    args = ["--config", "configs/eval/mini.yaml", "--policy", f"hf:{STARTER}", "--limit", "64"]
    assert main([*args, "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "hf-mini-starter" / "summary.json").read_text())
    assert summary["malformed_rate"] < 0.02
    assert 0.1 < summary["accuracy"] < 0.6
    assert summary["behaviour"]["looked"] > 0
