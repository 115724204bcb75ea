"""Fixtures that all tests may use."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The read-only data packs that lie beside the checkout; skips where they do not."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the data packs in shared/data beside the checkout, which are not there")
    return folder
