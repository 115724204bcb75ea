"""Training of a vision policy: one GRPO step of a tiny random Qwen2.5-VL and Qwen3-VL."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from trl import GRPOTrainer

pytest.importorskip("PIL")
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "agents" / "perception"))

from seen_world import make_seen_world
from tiny_vlm import make_tiny_vlm

import longvideo_env as lv
from longvideo_env import EnvConfig
from longvideo_env.errors import SpecError
from train.options.sft_options import SftArguments
from train.rollouts.shown import shown_with
from train.sft import collect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_seen_world(tmp_path_factory.mktemp("seen") / "world")


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def sees(
    request: Any, world: Path, tmp_path: Path, make_trainer: Callable[..., Any]
) -> Callable[..., Any]:
    """Make a trainer for a vision policy."""
    model = make_tiny_vlm(tmp_path / "vlm", request.param)
    fixed = ("--model_name_or_path", str(model), "--dataset", str(world), "--frames", "2")
    fixed = (*fixed, "--resolution", "112", "--max_turn_tokens", "8", "--max_steps", "1")
    return lambda *more: make_trainer(*fixed, *more)


def test_a_step_changes_the_part_that_sees_and_the_policy_loads(
    sees: Callable[..., Any], world: Path, tmp_path: Path
) -> None:
    trainer = sees(
        "--learning_rate", "1e-3", "--reward", "paper,validity=0,tests.train.test_seeing:length=1"
    )
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    changed = [n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])]
    assert any("visual" in name for name in changed)
    assert any("language_model" in name for name in changed)
    rows = [played for played, _ in trainer.rollout_func.played]
    assert all(row.frames["shown"] >= 2 for row in rows)
    trainer.save_model(str(tmp_path / "kept"))
    run = lv.evaluate(
        f"hf:{tmp_path / 'kept'}", dataset=str(world), split="test", limit=1, frames=2,
        max_turns=1, generation={"max_turn_tokens": 4}, out=tmp_path / "run", progress=False,
    )  # fmt: skip
    assert run.episodes[0].frames["shown"] == 2


def length(play: Any, _: Any) -> float:
    """Longer replies get more reward, so that the rewards in a group differ."""
    return float(sum(map(len, play.replies)))


def test_the_trainer_scores_under_the_pictures_that_were_seen(sees: Callable[..., Any]) -> None:
    trainer = sees()
    trainer.model.train()
    inputs = [trainer.train_dataset[0] for _ in range(4)]
    bare = GRPOTrainer._generate_and_score_completions(trainer, [dict(row) for row in inputs])
    assert "pixel_values" not in bare  # once TRL takes them from rollouts, remove ours
    batch = trainer._generate_and_score_completions([dict(row) for row in inputs])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    keep = batch["completion_ids"].size(1)
    names = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
    pictures = {name: batch[name] for name in names}
    assert sum(pictures["num_images"]) == len(pictures["image_grid_thw"])
    rows = [played for played, _ in trainer.rollout_func.played]
    trainer.model.eval()
    with torch.no_grad():
        score = trainer._get_per_token_logps_and_entropies
        right, _, _ = score(trainer.model, ids, mask, keep, 2, **pictures)
        dark = {**pictures, "pixel_values": torch.zeros_like(pictures["pixel_values"])}
        wrong, _, _ = score(trainer.model, ids, mask, keep, 2, **dark)
    errors, others, n = 0.0, 0.0, 0
    for i, row in enumerate(rows):
        place = 0
        for segment in row.segments:
            if not segment.turn:
                continue
            for logprob in segment.logprobs or (None,) * len(segment.token_ids or ()):
                if logprob is not None:
                    errors = max(errors, abs(right[i, place].item() - logprob))
                    others += abs(wrong[i, place].item() - logprob)
                    n += 1
                place += 1
    assert n >= 8
    assert errors < 0.002
    assert others / n > errors / 2
    assert shown_with(trainer.rollout_func.codec, [], ids) == {}


def test_kl_to_the_reference_sees_too(sees: Callable[..., Any]) -> None:
    trainer = sees("--beta", "0.1", "--steps_per_generation", "2", "--max_steps", "2")
    trainer.train()
    kl = [row["kl"] for row in trainer.state.log_history if "kl" in row]
    assert kl[0] == pytest.approx(0, abs=1e-4)


def test_what_cannot_see_is_named(
    sees: Callable[..., Any], make_trainer: Callable[..., Any], world: Path
) -> None:
    with (
        patch("train.options.grpo_options.find_spec", return_value=True),
        pytest.raises(SpecError, match="--use-vllm false"),
    ):
        sees("--use_vllm", "true")
    with pytest.raises(SpecError, match="takes no images"):
        make_trainer("--dataset", str(world), "--frames", "2")
    with pytest.raises(SpecError, match="supervised fine-tuning reads text"):
        collect(SftArguments(teacher=["teacher:mini"]), EnvConfig(frames=2), 0)
