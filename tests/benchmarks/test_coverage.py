import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"


@pytest.mark.slow
def test_the_six_settings_hold_the_truth() -> None:
    command = [sys.executable, str(SCRIPT), "--draws", "400", "--few"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 10]
    ours = [float(row[8]) for row in rows[2:]]
    assert len(ours) == 24
    assert min(ours) >= 0.91
    assert sum(ours) / len(ours) == pytest.approx(0.955, abs=0.02)
