from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.generation.batches import Generated
from agents.generation.chat import ChatCodec
from longvideo_env.game.policy import FinishReason

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "grpo" / "tiny.yaml"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """For such a small model, threads cost more time than they save."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from train.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def flags(tiny_model: Path, tmp_path: Path) -> list[str]:
    """The flags that every test of the trainer uses. More flags may follow."""
    return [
        *("--config", str(TINY)),
        *("--model_name_or_path", str(tiny_model)),
        *("--output_dir", str(tmp_path / "out")),
        *("--disable_tqdm", "true"),
    ]


@pytest.fixture
def make_trainer(flags: list[str]) -> Callable[..., Any]:
    """Build a `GRPOTrainer` as `train/grpo.py` does, from `tiny.yaml` and more flags."""
    from train.grpo import prepare
    from train.options.grpo_options import parse

    return lambda *more: prepare(*parse([*flags, *more]))


@pytest.fixture
def write_replies(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the model's replies by those of a function of the round and the row."""

    def install(write: Callable[[int, int], str], finish: FinishReason = "stop") -> None:
        rounds = iter(range(1000))

        def generate(
            model: object,
            codec: ChatCodec,
            prompts: Sequence[Sequence[int]],
            *rest: object,
            **options: object,
        ) -> list[Generated]:
            number = next(rounds)
            replies = [codec.encode(write(number, row)) for row in range(len(prompts))]
            return [Generated(ids, (0.0,) * len(ids), finish) for ids in replies]

        monkeypatch.setattr("train.rollouts.backends.generate_batch", generate)

    return install
