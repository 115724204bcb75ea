import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "rollout_overlap.py"


@pytest.mark.slow
def test_all_drivers_play_the_same_episodes_and_the_last_line_is_the_result() -> None:
    command = [sys.executable, str(SCRIPT), "--draws", "1", "--scale", "0.002", "--episodes", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    assert re.fullmatch(r"\d+\.\d\d x lockstep, \d\.\d\d of ideal", last)
    names = [line[:28].strip() for line in table[2:]]
    assert names == ["lockstep", "overlapped, micro-batches", "overlapped", "ideal"]
