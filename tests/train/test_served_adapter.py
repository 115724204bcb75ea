"""GRPO with a real `vllm serve` on the CPU that loads LoRA adapters. `make test-vllm` runs it.

All tests share one training run, with the server's command from docs/training.md.
"""

import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from longvideo_env.errors import SpecError
from longvideo_env.records.trajectory import Trajectory, read_trajectories
from tests.vllm_serve import serving

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "agents" / "starter"
STEPS = 3
RANK = 8


@dataclass
class Run:
    folder: Path
    metrics: list[dict[str, Any]]
    served: list[list[str]]

    def rollouts(self, step: int) -> list[Trajectory]:
        return list(read_trajectories(self.folder / f"kept/step-{step:06d}-rank-000.jsonl.zst"))


def adapters(server: str) -> list[str]:
    """The names that the server serves, except the model's own."""
    with urllib.request.urlopen(f"{server}/v1/models", timeout=60) as answer:
        return [str(model["id"]) for model in json.load(answer)["data"]][1:]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, started as on the page, but without chunked prefill.

    On a CPU, chunked prefill has no kernel for a request with a seed.
    """
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^(VLLM_.*) vllm serve MODEL (.*enable-lora.*)$", page, re.MULTILINE)
    variables = dict(one.split("=") for one in line[0].split())
    flags = line[1].replace("--max-lora-rank 128", f"--max-lora-rank {RANK}").split()
    limits = ["--max-model-len", "2048", "--max-num-batched-tokens", "16384"]
    log = tmp_path_factory.mktemp("logs") / "vllm.log"
    with serving(
        STARTER, log, *flags, *limits, "--no-enable-chunked-prefill", **variables
    ) as address:
        yield address


def flags_for(folder: Path, server: str, rank: int = RANK) -> list[str]:
    return [
        *("--config", str(ROOT / "configs/grpo/mini.yaml"), "--output_dir", str(folder)),
        *("--use_vllm", "true", "--vllm_mode", "server", "--vllm_server_base_url", server),
        *("--send_adapter", "true", "--use_peft", "--lora_r", str(rank), "--lora_dropout", "0"),
        *("--lora_target_modules", "all-linear", "--max_steps", str(STEPS), "--warmup_steps", "0"),
        *("--per_device_train_batch_size", "16", "--learning_rate", "0.01"),
        *("--save_strategy", "no", "--save_rollouts", str(folder / "kept")),
        *("--disable_tqdm", "true"),
    ]


@pytest.fixture(scope="module")
def run(server: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from train.grpo import prepare
    from train.options.grpo_options import parse
    from train.options.script import train_and_save

    folder = tmp_path_factory.mktemp("adapters")
    trainer: Any = prepare(*parse(flags_for(folder, server)))
    served: list[list[str]] = []
    play = trainer.rollout_func

    def watched(*args: Any) -> Any:
        served.append([*adapters(server), *(path.name for path in folder.glob("served/*"))])
        return play(*args)

    watched.__dict__.update(vars(play))
    trainer.rollout_func = watched
    train_and_save(trainer, None, trainer.release_engine)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return Run(folder, [json.loads(line) for line in lines][:STEPS], served)


def test_the_weights_of_every_step_arrive(run: Run) -> None:
    assert [record["step"] for record in run.metrics] == [1, 2, 3]
    assert all(record["grad_norm"] > 0 for record in run.metrics[:2])
    for record in run.metrics:
        assert record["episodes/failed"] == 0
        assert record["time/sync_s"] > 0
        assert record["sampling/sampling_logp_difference/max"] < 1e-3


def test_stale_weights_would_be_seen(run: Run) -> None:
    """Score the last step's tokens with the first weights. The log-probs must differ."""
    from transformers import AutoModelForCausalLM

    start = AutoModelForCausalLM.from_pretrained(STARTER)
    worst = 0.0
    for trajectory in run.rollouts(STEPS):
        ids = torch.tensor([i for s in trajectory.segments for i in s.token_ids or ()])
        with torch.no_grad():
            own = start(ids[None]).logits[0].log_softmax(-1)[:-1].gather(-1, ids[1:, None])[:, 0]
        place = 0
        for segment in trajectory.segments:
            size = len(segment.token_ids or ())
            if segment.sampled and segment.logprobs is not None:
                drawn = torch.tensor(segment.logprobs)
                worst = max(worst, float((own[place - 1 : place - 1 + size] - drawn).abs().max()))
            place += size
    assert worst > 0.1


def test_the_server_holds_one_adapter_at_a_time_and_none_in_the_end(run: Run, server: str) -> None:
    assert [len(names) for names in run.served] == [2] * STEPS  # on the server, and its files
    assert all(name == file for name, file in run.served)
    assert len({name for name, _ in run.served}) == STEPS
    assert adapters(server) == []
    assert not (run.folder / "served").exists()
    assert (run.folder / "adapter_model.safetensors").is_file()


def test_a_server_for_smaller_adapters_is_refused(server: str, tmp_path: Path) -> None:
    from train.grpo import prepare
    from train.options.grpo_options import parse

    with pytest.raises(SpecError, match=r"without --max-lora-rank 16\. Fix: VLLM_ALLOW_RUNTIME"):
        prepare(*parse(flags_for(tmp_path, server, rank=16)))
