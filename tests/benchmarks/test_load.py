import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "load.py"


@pytest.mark.slow
def test_a_small_set_is_measured_from_end_to_end() -> None:
    command = [sys.executable, str(SCRIPT), "--scale", "0.002", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "244 questions" in done.stdout
    assert done.stdout.count("warm:") == 2
    assert "all, shared pages counted once" in done.stdout
