"""A run with function calls by a local model: played, rescored, audited and shown."""

import json
from pathlib import Path

import pytest
import trl

from eval.report.command import write_report
from eval.rescore import main as rescore
from eval.run_policy import main
from longvideo_env.records.trajectory import read_trajectories
from train.tiny_model import make_tiny_model

QWEN3 = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from transformers import AutoTokenizer

    folder = make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = QWEN3.read_text(encoding="utf-8")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def reply_in_calls(monkeypatch):
    """Writes the replies of a trained model in place of the random model's."""
    look = '<tool_call>\n{"name": "look", "arguments": {"query": "who?"}}\n</tool_call>'
    answer = look.replace("look", "answer").replace("query", "answer").replace("who?", "a1")
    script = [f"<think>\nHm.\n</think>\n\n{look}<|im_end|>", look + answer, '<tool_call>{"name"']

    def generate(model, codec, prompts, seeds, settings, **more):
        from agents.generation.batches import Generated

        def one(prompt):
            turn = codec.decode(prompt).count("<|im_start|>assistant") - 1
            return codec.encode([*script, answer][min(turn, 3)])

        return [Generated(one(p), (0.0,) * len(one(p)), "end_of_turn") for p in prompts]

    monkeypatch.setattr("agents.generation.batches.generate_batch", generate)


def play(model, out, *more):
    args = ["--policy", f"hf:{model}", "--dataset", "embedded", "--limit", "4", "--out", str(out)]
    assert main([*args, "--protocol", "functions", "--max-turn-tokens", "24", *more]) == 0
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


def test_a_run_of_calls(model, tmp_path, reply_in_calls, capsys):
    folder = play(model, tmp_path / "runs")
    played = list(read_trajectories(folder / "episodes.jsonl"))
    assert len(played) == 4
    for one in played:
        assert [turn.action or turn.malformed for turn in one.turns] == [
            *("look", "several_actions", "broken_call", "answer")
        ]
        messages = [s.message for s in one.segments if s.sampled]
        assert messages[0]["reasoning_content"] == "Hm."
        assert [len(m.get("tool_calls", ())) for m in messages] == [1, 2, 0, 1]
        assert "broken" in messages[2]
        roles = [s.role for s in one.segments if s.turn and s.role != "assistant"]
        assert roles == ["tool", "tool", "user"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["protocol"] == "functions"

    assert rescore([str(folder)]) == 0
    assert "changed: nothing" in capsys.readouterr().out
    again = list(read_trajectories(folder / "rescored" / "episodes.jsonl"))
    assert [t.to_json() for t in again] == [t.to_json() for t in played]
    write_report([folder], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.slow
def test_a_random_model_breaks_nothing(model, tmp_path):
    folder = play(model, tmp_path, "--temperature", "1")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["n_finished"], summary["n_failed"]) == (4, 0)


def test_a_model_without_tools_is_refused_before_anything_is_played(tmp_path, capsys):
    args = ["--policy", "hf:mini-starter", "--dataset", "embedded", "--out", str(tmp_path)]
    assert main([*args, "--protocol", "functions"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "does not support tools" in said
    assert "Fix: use protocol=tags" in said
