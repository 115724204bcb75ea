import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "env_step.py"


@pytest.fixture
def env_step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("env_step", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "env_step", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_our_rows_play_to_the_end_offline(env_step: ModuleType) -> None:
    command = [sys.executable, str(SCRIPT), "--child", "longvideo-env", "--episodes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert set(rows) == {s.name for s in env_step.SUBJECTS if s.package == "longvideo-env"}
    plain = rows["LongTVQA-v0, plain"]
    assert list(plain["turns"]) == ["look", "ground", "malformed", "answer"]
    assert 0 < plain["step_min"] <= plain["step"] < plain["amortised"]


def test_a_missing_peer_is_shown_with_its_remedy(
    env_step: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(env_step, "PEERS_VENV", tmp_path / "nothing")
    assert env_step.run_child("textarena", 1) == f"not installed; fix: {env_step.SETUP}"


def test_the_network_is_refused(env_step: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="offline"):
        env_step._refuse_network("socket.getaddrinfo", ("example.org", 443))
    env_step._refuse_network("open", ("file",))
