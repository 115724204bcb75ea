import os
import re
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from longvideo_env.commands.doors.serve import TOKEN, main

COMMAND = [sys.executable, "-m", "longvideo_env.commands.main", "serve", "--port", "0"]
TOOLS = '''import time


def sleepy(request, query: str) -> str:
    """Sleeps in a thread that nobody can interrupt.

    Args:
        query: anything
    """
    time.sleep(60)
    return "late"
'''


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_within_five_seconds_although_a_tool_hangs(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "my_tools.py").write_text(TOOLS, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [*COMMAND, "--dataset", "mini:videos=2", "--tools", "my_tools:sleepy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        port = next(int(m[1]) for line in process.stdout if (m := re.search(r":(\d+)\.", line)))
        http = HTTPConnection("127.0.0.1", port, timeout=10)
        http.request("POST", "/reset", "{}")
        named = re.search(rb'"session_id":"(\w+)"', http.getresponse().read())
        assert named is not None
        action = '{"action": {"text": "<sleepy>x</sleepy>"}, "session_id": "%s"}'
        http.request("POST", "/step", action % named[1].decode())
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - began < 5
        http.close()


@pytest.mark.parametrize(
    ("arguments", "token", "said", "code"),
    [
        (["--host", "0.0.0.0"], None, f"Fix: set {TOKEN}", 2),
        (["--host", "0.0.0.0"], "short", "must have 16 characters", 2),
        (["--port", "70000"], None, "0 to 65535", 2),
        (["--max-sessions", "0"], None, "max_sessions must be above 0", 2),
        (["--idle-s", "nan"], None, "idle_s must be above 0", 2),
        (["--dataset", "no/such/folder"], None, "no/such/folder", 1),
    ],
)
def test_bad_options(
    arguments: list[str],
    token: str | None,
    said: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    if token is not None:
        monkeypatch.setenv(TOKEN, token)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
