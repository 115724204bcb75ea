"""SmolLM2-135M plays, is taught the tags, and learns from rewards. `make test-real` runs it.

It takes about twelve CPU minutes. `pytest -rA` shows its output.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.generation.batches import generate_batch
from agents.generation.hf import load_model
from agents.generation.settings import GenerationSettings
from agents.policies.starter import resolve_model
from longvideo_env.records.trajectory import Trajectory, read_trajectories
from tests.real.playing import GRPO, GRPO_SHOWN, Play, Played, merge, steps_of

pytestmark = pytest.mark.real


@dataclass
class Training:
    trainer: Any
    adapter: Path
    start: list[Trajectory]
    metrics: list[dict[str, Any]]


def test_it_answers_a_question_and_ends_its_turn(model: Path) -> None:
    policy, codec = load_model(model)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    (opening,) = codec.open(messages)
    settings = GenerationSettings(max_turn_tokens=20)
    (reply,) = generate_batch(policy, codec, [list(opening.token_ids or ())], [0], settings)
    assert codec.decode(reply.token_ids) == "The capital of France is Paris.<|im_end|>"
    assert reply.finish == "end_of_turn"


def test_the_gguf_file_is_the_same_model(model: Path) -> None:
    (file,) = model.parent.glob("*.gguf")
    folder = Path(resolve_model(str(file)))
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (model / name).read_bytes()


@pytest.fixture(scope="module")
def untaught(model: Path, play: Play) -> Played:
    return play(f"hf:{model}", "--dataset", "mini", show=6)


def test_untaught_it_writes_prose(untaught: Played, model: Path, play: Play) -> None:
    """The model cannot write tags. Its answers in plain words are counted apart, without reward."""
    assert untaught.well_formed < 0.5
    for episode in untaught.episodes:
        assert episode.reward == 0 or episode.choice is not None
    helped = play(f"hf:{model}", "--dataset", "mini", "--prompts", "worked-example", show=6)
    embedded = play(f"hf:{model}", "--dataset", "embedded", limit=2, show=2)
    for played in (untaught, helped, embedded):
        assert played.summary["n_failed"] == 0
        assert all(turn.finish for t in played.episodes for turn in t.turns)
    print(f"well-formed turns: default words {untaught.well_formed:.3f}, ", end="")
    print(f"worked example {helped.well_formed:.3f}")
    assert helped.well_formed >= untaught.well_formed


def test_a_short_training_teaches_the_tags(untaught: Played, taught: Path, play: Play) -> None:
    after = play(f"hf:{taught}", "--dataset", "mini", show=2)
    print(f"well-formed turns: before {untaught.well_formed:.3f}, after {after.well_formed:.3f}")
    assert after.well_formed >= untaught.well_formed + 0.5


@pytest.fixture(scope="module")
def training(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    from train.grpo import prepare
    from train.options.grpo_options import parse
    from train.options.script import train_and_save

    folder = tmp_path_factory.mktemp("grpo")
    adapter, kept = folder / "adapter", folder / "kept"
    flags = ("--model_name_or_path", str(taught), "--output_dir", str(adapter), *GRPO)
    trainer = prepare(*parse([*flags, "--save_rollouts", str(kept)]))
    train_and_save(trainer, None)
    start = list(read_trajectories(kept / "step-000001-rank-000.jsonl.zst"))
    return Training(trainer, adapter, start, steps_of(adapter))


def test_three_steps_of_grpo(training: Training) -> None:
    assert [record["step"] for record in training.metrics] == [1, 2, 3]
    for record in training.metrics:
        print({name: record[name] for name in GRPO_SHOWN})
        assert record["episodes/failed"] == 0
        assert 0 <= record["episodes/malformed"] <= 1
    moved = [p for name, p in training.trainer.model.named_parameters() if "lora_B" in name]
    learned = any(bool(parameter.abs().max() > 0) for parameter in moved)
    assert learned == any(record["grad_norm"] > 0 for record in training.metrics)


def test_generation_and_trainer_agree_on_log_probs(training: Training) -> None:
    """The log-probs of the first step's episodes, with the first weights."""
    trainer: Any = training.trainer
    policy = trainer.accelerator.unwrap_model(trainer.model)
    worst, n, turns = 0.0, 0, []
    for trajectory in training.start:
        segments = trajectory.segments
        ids = torch.tensor([[i for s in segments for i in s.token_ids or ()]])
        n_prompt = len(segments[0].token_ids or ())
        with torch.no_grad(), policy.disable_adapter():  # a fresh adapter changes nothing
            own, *_ = trainer._get_per_token_logps_and_entropies(
                policy, ids, torch.ones_like(ids), ids.shape[1] - n_prompt
            )
        place = 0
        for segment in segments[1:]:
            size = len(segment.token_ids or ())
            if segment.sampled:
                drawn = torch.tensor(segment.logprobs)
                worst = max(worst, float((own[0, place : place + size] - drawn).abs().max()))
                n += size
            place += size
        turns.append(len(trajectory.turns))
    print(f"{n} tokens of {len(turns)} episodes of {turns} turns differ by {worst:.1e} at most")
    assert max(turns) > 1
    assert n > 20
    assert worst < 1e-4


def test_the_merged_adapter_plays_as_the_adapter_does(
    training: Training, taught: Path, play: Play
) -> None:
    whole = merge(taught, training.adapter, training.adapter.with_name("merged"))
    apart = play(f"hf:{taught}+{training.adapter}", "--dataset", "mini", limit=2, tokens=24)
    together = play(f"hf:{whole}", "--dataset", "mini", limit=2, tokens=24)
    assert apart.replies == together.replies
    assert apart.summary["accuracy"] == together.summary["accuracy"]
