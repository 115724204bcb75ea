"""Evaluation with real vLLM on the CPU. `make test-vllm` runs it; each policy loads an engine."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from eval.run_policy import main as run_policy

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "agents" / "starter"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that changes the replies of the starter policy."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(STARTER), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


def episodes(folder: Path) -> dict[str, list[Any]]:
    records = map(json.loads, (folder / "episodes.jsonl").read_text().splitlines())
    return {str(r["qid"]): [s["token_ids"] for s in r["segments"] if s["sampled"]] for r in records}


def test_plays_as_transformers_does_one_checkpoint_after_the_other(
    adapter: Path, tmp_path: Path
) -> None:
    specs = [
        f"{kind}:{path}" for path in (STARTER, f"{STARTER}+{adapter}") for kind in ("hf", "vllm")
    ]
    flags = [flag for spec in specs for flag in ("--policy", spec)]
    done = run_policy(
        [
            *flags,
            *("--dataset", "mini", "--split", "val", "--limit", "12", "--no-instructions"),
            *("--max_turn_tokens", "32", "--max_model_len", "2048", "--out", str(tmp_path)),
        ]
    )  # fmt: skip
    assert done == 0
    plain, plain_vllm, lora, lora_vllm = (
        episodes(next(path for path in tmp_path.iterdir() if is_of(path, spec))) for spec in specs
    )
    # Greedy decoding: the same tokens, unless two logits are equal up to rounding.
    assert sum(plain[qid] == plain_vllm[qid] for qid in plain) >= 11
    assert sum(lora[qid] == lora_vllm[qid] for qid in lora) >= 11
    assert sum(plain[qid] == lora[qid] for qid in plain) < 12, "the adapter was not applied"


def test_calls_of_functions_as_transformers_plays_them(tmp_path: Path) -> None:
    import importlib.util

    from transformers import AutoTokenizer

    from train.tiny_model import make_tiny_model

    (trl,) = importlib.util.find_spec("trl").submodule_search_locations  # type: ignore[union-attr]
    model = make_tiny_model(tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(model)
    template = Path(trl, "chat_templates", "qwen3.jinja")
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    tokenizer.save_pretrained(model)
    specs = [f"hf:{model}", f"vllm:{model}"]
    flags = [flag for spec in specs for flag in ("--policy", spec)]
    more = ["--dataset", "mini", "--split", "val", "--limit", "6", "--protocol", "functions"]
    limits = ["--max_turn_tokens", "16", "--max_model_len", "4096", "--out", str(tmp_path / "out")]
    assert run_policy([*flags, *more, *limits]) == 0
    folders = [*(tmp_path / "out").iterdir()]
    here, vllm = (episodes(next(f for f in folders if is_of(f, spec))) for spec in specs)
    assert len(here) == 6
    # The end-of-turn token is rare at random: each turn ends at its limit, or at that token.
    assert sum(here[qid] == vllm[qid] for qid in here) >= 5


def is_of(folder: Path, spec: str) -> bool:
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_text())["policy"] == spec


def test_a_closed_policy_says_so(tmp_path: Path) -> None:
    from agents.generation.vllm_engine import EngineThread
    from longvideo_env.errors import PolicyError

    class Idle:
        busy = False

        def add(self, prompt: Any, seed: int) -> None:
            return None

    thread = EngineThread(Idle())  # type: ignore[arg-type]
    assert asyncio.run(thread.generate([1], 0)).finish == "context"
    thread.close()
    with pytest.raises(PolicyError, match="closed"):
        asyncio.run(thread.generate([1], 0))
