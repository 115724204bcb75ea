"""TRL's asynchronous trainer on the game, against a real `vllm serve`. `make test-vllm` runs it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vllm_serve import serving

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[3]
ON_CPU = Path(__file__).with_name("trl_on_cpu.py")
STEPS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with Qwen3's template that calls `answer` with any of the five options."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from longvideo_env.integrations.trl import LongTVQA
    from train.tiny_model import make_tiny_model

    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    (trl,) = importlib.util.find_spec("trl").submodule_search_locations  # type: ignore[union-attr]
    tokenizer.chat_template = Path(trl, "chat_templates", "qwen3.jinja").read_text("utf-8")
    tokenizer.save_pretrained(folder)

    spec = LongTVQA(dataset="mini", split="train", limit=8)
    environment = spec.environment_factory()
    prompts = [
        tokenizer.apply_chat_template(
            [*row["prompt"][:-1], {"role": "user", "content": environment.reset(**row)}],
            tools=[environment.ground, environment.look, environment.answer],
            add_generation_prompt=True,
            return_dict=False,
        )
        for row in spec.train_dataset
    ]
    calls = [json.dumps({"name": "answer", "arguments": {"answer": f"a{i}"}}) for i in range(5)]
    # TRL renders a turn with empty reasoning. A turn without it would be context, not trained.
    texts = [f"<think>\n\n</think>\n\n<tool_call>\n{c}\n</tool_call><|im_end|>" for c in calls]
    targets = torch.tensor(tokenizer(texts)["input_ids"])
    policy = AutoModelForCausalLM.from_pretrained(folder).train()
    optimizer = torch.optim.Adam(policy.parameters(), 5e-3)
    for step in range(156):
        prompt = prompts[step % 8][-(48, 96, 192, 384)[step % 4] if step < 146 else 0 :]
        seen = torch.tensor([prompt] * len(targets))
        labels = torch.cat([torch.full_like(seen, -100), targets], 1)
        loss = policy(input_ids=torch.cat([seen, targets], 1), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, started as on the page, but without chunked prefill.

    On a CPU, chunked prefill has no kernel for a request with a seed.
    """
    page = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^(VLLM_.*) vllm serve MODEL (.*)$", page, re.MULTILINE)
    variables = dict(one.split("=") for one in line[0].split())
    limits = ["--max-model-len", "4096", "--max-num-batched-tokens", "16384"]
    flags = [*line[1].split(), *limits, "--no-enable-chunked-prefill"]
    log = tmp_path_factory.mktemp("logs") / "vllm.log"
    with serving(model, log, *flags, **variables) as address:
        yield address


@pytest.fixture(scope="module")
def trained(model: Path, server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the page's script, with a learning rate that makes old weights visible."""
    folder = tmp_path_factory.mktemp("trained")
    page = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python vllm\n(# train_with_trl_async.*?)^```", page, re.M | re.S)
    for long, short in (
        ("learning_rate=1e-5", "learning_rate=1e-2, max_completion_length=80"),
        ("max_tool_calling_iterations=5", "max_tool_calling_iterations=1"),
    ):
        assert long in code
        code = code.replace(long, short)
    (folder / "train.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ON_CPU), "train.py", str(model), server],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return folder / "runs" / "trl-async" / f"checkpoint-{STEPS}"


@pytest.fixture(scope="module")
def history(trained: Path) -> list[dict[str, Any]]:
    """The log of each step."""
    state = json.loads((trained / "trainer_state.json").read_text(encoding="utf-8"))
    logged: list[dict[str, Any]] = state["log_history"]
    return logged[:STEPS]


def test_its_rewards_are_the_games(history: list[dict[str, Any]]) -> None:
    assert [record["step"] for record in history] == [1, 2]
    for record in history:
        assert record["reward"] == record["rewards/LongTVQA"]
        assert record["tools/call_frequency"] > 0.1
        assert record["tools/failure_frequency"] == 0
        assert record["rollout/realign_frac"] + record["rollout/fork_frac"] < 0.5
    assert max(record["reward"] for record in history) > 0
    assert max(record["grad_norm"] for record in history) > 0


def test_the_lag_is_bounded_and_logged(history: list[dict[str, Any]]) -> None:
    first, second = history
    assert first["sample/staleness_max"] == 0
    assert first["ratio"] == pytest.approx(1, abs=1e-3)
    assert first["kl"] == pytest.approx(0, abs=1e-4)
    assert second["sample/staleness_max"] <= 1  # played while the first was trained on


def test_the_server_plays_with_the_trained_adapter(trained: Path, model: Path, server: str) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    policy: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), trained)
    errors, changes = [], []
    for word in ("Who", "What", "When", "Where", "answer", "look", "a0", "a1"):
        ids = tokenizer(f"<|im_start|>user\n{word}?<|im_end|>\n")["input_ids"]
        with torch.no_grad():
            logits = policy(torch.tensor([ids])).logits[0, -1]
            with policy.disable_adapter():
                before = policy(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        body = {"model": f"trl-policy-v{STEPS + 1}", "prompt": ids, "max_tokens": 1}
        request = urllib.request.Request(
            f"{server}/v1/completions",
            data=json.dumps({**body, "temperature": 0, "logprobs": 0}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            (theirs,) = json.load(answer)["choices"][0]["logprobs"]["token_logprobs"]
        errors.append(abs(theirs - logits.log_softmax(-1).max().item()))
        changes.append(abs(theirs - before[logits.argmax()].item()))
    assert max(errors) < 1e-3
    # How much two steps change depends on what was played, so it is compared with the error.
    assert max(changes) > 3 * max(errors)
