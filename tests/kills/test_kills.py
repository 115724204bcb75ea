"""A file is the old or the new one, never a part, whenever its writer is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.kills)])
@pytest.mark.parametrize(
    "what", ["files", "bundles", "indexes", pytest.param("checkpoints", marks=pytest.mark.slow)]
)
def test_a_writer_may_be_killed_at_any_moment(tmp_path: Path, what: str, kills: int) -> None:
    if what == "checkpoints":
        pytest.importorskip("transformers")
    done = subprocess.run(
        [sys.executable, str(HERE / f"write_{what}.py"), str(tmp_path), str(kills)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert f"{kills} kills" in done.stdout
