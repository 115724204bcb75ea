"""A recording with a killed writer: every announced call is complete, and none is partial."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from longvideo_env.tools.recording import Recording, export_calls, import_calls

WRITER = """
import sys
from longvideo_env.tools.recording import Recording
from longvideo_env.tools.tool import ToolReply
recording = Recording(sys.argv[1], "reuse")
for n in range(int(sys.argv[2]), 10**9):
    recording.put({"agent": "a", "n": n}, ToolReply(str(n) * 2000))
    print(n, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=pytest.mark.kills)])
def test_killed_at_any_moment_a_recording_holds_all_that_was_stored(tmp_path: Path, kills: int):
    rng, file, done = np.random.default_rng(0), tmp_path / "calls.sqlite", -1
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), str(done + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.05)))
        process.kill()
        said = [int(line) for line in process.communicate()[0].split("\n")[:-1]]
        done = max([done + 1, *said])  # the first line was read above
        recording = Recording(file, "replay")
        assert len(recording) >= done + 1
        assert all(recording.holds({"agent": "a", "n": n}) for n in range(done + 1))
        done = len(recording) - 1
    lines = list(export_calls(file))
    assert import_calls(tmp_path / "copy.sqlite", iter(lines)) == done + 1
