"""The command `longvideo-env doctor`: its findings, and the secrets that it never shows."""

import json
import socket
from collections.abc import Iterator

import pytest

from agents import doctor
from agents.doctor import look_over, main


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def states(**asked: list[str]) -> dict[str, tuple[str, str]]:
    return {finding.topic: (finding.state, finding.found) for finding in look_over(**asked)}


def test_nothing_is_wrong_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "extra train: accelerate" in said
    assert "0 problems" in said


def test_no_key_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody-1234567")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["--json"]) == 0
    said = capsys.readouterr().out
    assert "nobody" not in said
    found = {row["topic"]: row["found"] for row in json.loads(said)["rows"]}
    assert found["OPENAI_API_KEY"] == "set"
    assert found["HF_TOKEN"] == "not set"


def test_endpoints_are_tried(
    port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there, gone = f"http://127.0.0.1:{port}/v1", "http://127.0.0.1:1/v1"
    found = states(endpoints=[there, gone, "nobody"])
    assert found[f"endpoint {there}"][0] == "ok"
    assert found[f"endpoint {gone}"][0] == "problem"
    assert "unknown endpoint" in found["endpoint nobody"][1]
    assert main(["--endpoint", gone]) == 3
    assert "Fix: start the server" in capsys.readouterr().out


def test_datasets_are_opened_split_by_split() -> None:
    found = states(datasets=["mini:videos=20", "embedded", "nowhere"])
    assert {"dataset mini:videos=20, train", "dataset mini:videos=20, test"} <= found.keys()
    assert found["dataset nowhere"][0] == "problem"
    assert all(state == "ok" for topic, (state, _) in found.items() if "embedded" in topic)


def test_what_an_extra_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "trl":
            raise doctor.PackageNotFoundError(name)
        return "0.0.1" if name == "peft" else installed(name)

    installed = doctor.version
    monkeypatch.setattr(doctor, "version", version)
    findings = {finding.topic: finding for finding in look_over()}
    train = findings["extra train"]
    assert train.state == "note"
    assert "not installed: trl" in train.found
    assert "peft 0.0.1 (wanted" in train.found
    assert train.fix == "pip install 'longvideo-env[train]'"
    assert findings["longvideo-env"].state == "ok"
