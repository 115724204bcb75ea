"""SmolLM2-135M with real vLLM on a CPU. `make test-real` runs it last, in vLLM's environment."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from eval.run_policy import main as run_policy
from eval.runs.naming import run_folder
from longvideo_env import read_trajectories

pytestmark = [pytest.mark.real, pytest.mark.vllm]

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "runs" / "real" / "smollm2"


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with Qwen3's template, whose turns are ChatML as its own, and which takes tools."""
    if not (MODEL / "config.json").is_file():
        pytest.fail(f"there is no model in {MODEL}. Fix: make real.")
    folder = tmp_path_factory.mktemp("models") / "smollm2"
    shutil.copytree(MODEL, folder)
    (trl,) = importlib.util.find_spec("trl").submodule_search_locations  # type: ignore[union-attr]
    shutil.copy(Path(trl, "chat_templates", "qwen3.jinja"), folder / "chat_template.jinja")
    return folder


def test_by_functions_it_replies_in_vllm_as_in_transformers(
    caller: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Two real questions, greedily, in float32."""
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
