"""Errors of the operating system: one line, exit code 1, and finished results are kept."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval.run_policy import main
from longvideo_env.commands.data.mini import main as mini
from longvideo_env.records.files import cache_root

ROOT = Path(__file__).parents[2]
LIMIT = 60


def run(out, *more):
    return main(
        ["--policy", "scripted:ground-look-answer", "--dataset", "mini", "--limit", str(LIMIT),
         "--concurrency", "1", "--out", str(out), *more]
    )  # fmt: skip


def one_line(capsys):
    """The error's line: the last line of standard error, without a traceback."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_a_full_disk_is_one_line_and_what_was_finished_is_kept(tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        assert run(tmp_path) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written: File too large. Fix:" in one_line(capsys)
    assert run(tmp_path) == 0
    said = capsys.readouterr().out
    kept = int(said.split(" played now, ")[1].split(" kept")[0])
    assert 0 < kept < LIMIT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_recording_on_a_full_disk_ends_the_run(tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = tmp_path / "calls.sqlite"
    assert run(tmp_path / "a", "--recording", "record", "--recording-file", str(file)) == 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, hard))
    try:
        code = run(
            tmp_path / "b", "--seed", "1", "--recording", "record", "--recording-file", str(file)
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert "cannot be written" in one_line(capsys)


@pytest.mark.parametrize("out", ["/proc/none", "/dev/null/x"])
def test_a_place_that_cannot_be_written(capsys, out):
    assert run(out) == 1
    assert f"{out}/scripted-ground-look-answer cannot be written: " in one_line(capsys)


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_to_a_full_device(tmp_path, stream):
    command = [
        sys.executable, str(ROOT / "eval" / "run_policy.py"), "--policy", "random",
        "--dataset", "embedded", "--limit", "2", "--out",
        str(tmp_path) if stream == "stdout" else "/dev/null/x",
    ]  # fmt: skip
    other = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            command, **other | {stream: full}, text=True, timeout=100, check=False
        )
    assert done.returncode == 1
    if stream == "stdout":
        assert "No space left on device" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert len(list(tmp_path.glob("*/summary.json"))) == 1


FEW = """
import os, resource, sys
from eval.run_policy import main
few = len(os.listdir("/proc/self/fd")) + 4  # the event loop needs three
resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
sys.exit(main(["--policy", "random", "--dataset", "embedded", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
def test_too_few_open_files(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FEW, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Too many open files" in done.stderr.splitlines()[-1]


def test_without_a_home_nothing_is_kept_and_nothing_fails(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("LONGVIDEO_ENV_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(OSError, match="set LONGVIDEO_ENV_CACHE"):
        cache_root()
    assert run(tmp_path) == 0


def test_a_dataset_that_may_only_be_read(tmp_path, monkeypatch):
    data = tmp_path / "data"
    assert mini(["--out", str(data), "--videos", "3"]) == 0
    places = [data, *data.rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in places}
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)  # root can write anyway
    try:
        assert run(tmp_path / "out", "--dataset", str(data)) == 0
        assert {path: path.stat().st_mtime_ns for path in [data, *data.rglob("*")]} == before
    finally:
        for path in places:
            path.chmod(0o755)


NO_SHM = """
import _multiprocessing, sys
class Refused:  # as where there is no /dev/shm
    SEM_VALUE_MAX = 1
    def __new__(cls, *given, **more):
        raise OSError(38, "Function not implemented")
_multiprocessing.SemLock = Refused
sys.modules["_posixshmem"] = None
from eval.run_policy import main
sys.exit(main(["--policy", "random", "--dataset", "mini", "--limit", "5", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
def test_without_dev_shm(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NO_SHM, str(tmp_path)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


SLOW = """
import time
def wait(messages):
    time.sleep(100)
    return "<answer>a0</answer>"
def half(messages):
    if "video" in str(messages) and half.n >= 3:
        time.sleep(100)
    half.n += 1
    return "<answer>a0</answer>"
half.n = 0
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_within_five_seconds_with_its_work_kept(tmp_path, number):
    (tmp_path / "slow_policy.py").write_text(SLOW)
    command = [
        sys.executable, str(ROOT / "eval" / "run_policy.py"), "--policy", "slow_policy:half",
        "--dataset", "embedded", "--concurrency", "1", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not _lines(tmp_path) >= 3:
        time.sleep(0.1)
    time.sleep(0.3)
    start = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - start < 5
    assert process.returncode == 130
    assert "interrupted; the same command resumes" in said
    assert "Traceback" not in said
    assert _lines(tmp_path) == 3


def _lines(folder):
    files = list(folder.glob("out/*/episodes.jsonl"))
    return files[0].read_bytes().count(b"\n") if files else 0
