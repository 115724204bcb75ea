"""Fixtures of the tests with the real model."""

from pathlib import Path

import pytest

from tests.real.playing import MODEL, REAL, Play, Played, play_greedily, teach


@pytest.fixture(scope="session")
def model() -> Path:
    """SmolLM2-135M-Instruct."""
    if not (MODEL / "config.json").is_file():
        pytest.fail(f"there is no model in {MODEL}. Fix: make real.")
    return MODEL


@pytest.fixture(scope="session")
def taught(model: Path) -> Path:
    """The model after training on 24 episodes of a teacher."""
    return teach(model, REAL / "taught")


@pytest.fixture(scope="session")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Play questions with greedy decoding, each time in a new folder."""

    def run(spec: str, *flags: str, **options: int) -> Played:
        return play_greedily(tmp_path_factory.mktemp("played"), spec, *flags, **options)

    return run
