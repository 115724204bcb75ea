"""SmolLM2-135M with real vLLM on a CPU. `make test-real` runs it last, in vLLM's environment.

The training is a separate process, because an engine leaves its process group behind.
"""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eval.run_policy import main as run_policy
from eval.runs.naming import run_folder
from longvideo_env import read_trajectories
from tests.real.playing import GRPO_SHOWN, Play, merge, train_by_command
from tests.vllm_serve import serving

pytestmark = [pytest.mark.real, pytest.mark.vllm]


@pytest.fixture(scope="module")
def caller(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with Qwen3's template. It uses ChatML, like the model's own, and takes tools."""
    folder = tmp_path_factory.mktemp("models") / "smollm2"
    shutil.copytree(model, folder)
    (trl,) = importlib.util.find_spec("trl").submodule_search_locations  # type: ignore[union-attr]
    shutil.copy(Path(trl, "chat_templates", "qwen3.jinja"), folder / "chat_template.jinja")
    return folder


def test_by_functions_it_replies_in_vllm_as_in_transformers(
    caller: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Two real questions with greedy decoding, in float32."""
    specs = [f"{kind}:{caller}" for kind in ("hf", "vllm")]
    done = run_policy(
        [
            *(flag for spec in specs for flag in ("--policy", spec)),
            *("--dataset", str(shared_data / "tvqa_plus_dev"), "--split", "val", "--limit", "2"),
            *("--protocol", "functions", "--max_turns", "2", "--max_turn_tokens", "24"),
            *("--max_model_len", "2048", "--out", str(tmp_path / "out")),
        ]
    )
    assert done == 0
    replies = []
    for spec in specs:
        episodes = read_trajectories(run_folder(tmp_path / "out", spec, specs) / "episodes.jsonl")
        sampled = [s for t in episodes for s in t.segments if s.sampled]
        print(spec.partition(":")[0], *(repr(s.text) for s in sampled), sep="\n  ")
        replies.append([s.token_ids for s in sampled])
    assert len(replies[0]) >= 2
    assert replies[0] == replies[1]


@dataclass
class Trained:
    adapter: Path
    metrics: list[dict[str, Any]]


@pytest.fixture(scope="module")
def colocated(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three steps with an engine in the trainer's process."""
    adapter = tmp_path_factory.mktemp("colocated") / "adapter"
    flags = ("--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_max_model_length", "2048")
    return Trained(adapter, train_by_command(taught, adapter, *flags))


@pytest.fixture(scope="module")
def served(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three steps with a `vllm serve` that loads the adapters."""
    folder = tmp_path_factory.mktemp("served")
    adapter = folder / "adapter"
    with serving(
        *(taught, folder / "vllm.log", "--enable-lora", "--max-lora-rank", "16"),
        *("--logprobs-mode", "processed_logprobs", "--max-model-len", "2048"),
        *("--max-num-batched-tokens", "16384", "--no-enable-chunked-prefill"),
        VLLM_SERVER_DEV_MODE="1",
        VLLM_ALLOW_RUNTIME_LORA_UPDATING="1",
    ) as address:
        flags = ("--use_vllm", "true", "--vllm_mode", "server", "--vllm_server_base_url", address)
        return Trained(adapter, train_by_command(taught, adapter, *flags, "--send_adapter", "true"))


@pytest.mark.parametrize("mode", ["colocated", "served"])
def test_three_steps_of_grpo(mode: str, request: pytest.FixtureRequest) -> None:
    """The log-probs from vLLM equal the trainer's, with each step's weights."""
    trained: Trained = request.getfixturevalue(mode)
    assert [record["step"] for record in trained.metrics] == [1, 2, 3]
    assert max(record["grad_norm"] for record in trained.metrics[:2]) > 0
    for record in trained.metrics:
        print({name: record[name] for name in SHOWN if name in record})
        assert record["episodes/failed"] == 0
        assert record[f"{GAP}/max"] < 1e-3
    assert (trained.adapter / "adapter_model.safetensors").is_file()


GAP = "sampling/sampling_logp_difference"
SHOWN = (*GRPO_SHOWN, f"{GAP}/mean", f"{GAP}/max", "time/rollouts_s", "time/train_s", "time/sync_s")


def test_greedy_replies_of_vllm_are_those_of_transformers(
    taught: Path, colocated: Trained, play: Play
) -> None:
    """The model with the adapter, and merged with it. The test above has only the model."""
    whole = merge(taught, colocated.adapter, colocated.adapter.with_name("merged"))
    for policy in (f"{taught}+{colocated.adapter}", whole):
        hf, vllm = (
            play(
                f"{kind}:{policy}",
                *("--dataset", "mini", "--max_model_len", "2048"),
                limit=2,
                tokens=24,
            )
            for kind in ("hf", "vllm")
        )
        assert hf.replies == vllm.replies
        assert hf.summary["accuracy"] == vllm.summary["accuracy"]
