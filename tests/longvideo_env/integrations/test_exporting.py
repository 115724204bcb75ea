"""Saved episodes become conversations with tool calls, and TRL's trainer reads them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import longvideo_env as lv
from longvideo_env.commands.doors.export_command import main
from longvideo_env.config import EnvConfig
from longvideo_env.integrations.calling import CallStage
from longvideo_env.integrations.exports import conversations

FORMS = ("sharegpt", "openai", "trl")


def right(messages: list[dict[str, str]]) -> str:
    """Looks, grounds and answers a0, sometimes with an error."""
    n = sum(message["role"] == "assistant" for message in messages)
    if "?" in messages[1]["content"].splitlines()[0][-3:] and n == 0:
        return "<reasoning>I look.</reasoning><search>mug</search>"
    return ["<search>mug</search>", "<request_grounding/>", "<answer>a0</answer>"][min(n, 2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    result = lv.evaluate(
        right, dataset="embedded", split="train", out=out, shuffle_options=True, progress=False
    )
    return Path(result.folder)


@pytest.fixture(scope="module")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    for form in FORMS:
        assert main([str(run), "--to", form, "--min-reward", "0", "--out", str(folder / form)]) == 0
    return {form: folder / form for form in FORMS}


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_conversation_is_the_episode_played_by_calls(run: Path) -> None:
    stage = CallStage(EnvConfig(dataset="embedded", split="train", shuffle_options=True))
    rows, counts = conversations(run, "trl", min_reward=0)
    for row, trajectory in zip(rows, lv.read_trajectories(run / "episodes.jsonl"), strict=True):
        play = stage.open(trajectory.qid, seed=0)
        heard = [play.start()]
        for message in row["messages"]:
            for call in message.get("tool_calls", []):
                function = call["function"]
                heard.append(play.call(function["name"], function["arguments"]))
        said = [m["content"] for m in row["messages"] if m["role"] in ("user", "tool")]
        assert said == heard[:-1]
        assert play.score().reward == trajectory.reward
    assert counts["written"] > 5


def test_only_right_episodes_are_taken_by_default(run: Path, tmp_path: Path) -> None:
    n_right = sum(bool(t.correct) for t in lv.read_trajectories(run / "episodes.jsonl"))
    out = tmp_path / "right.jsonl"
    assert main([str(run), "--to", "openai", "--out", str(out)]) == (0 if n_right else 3)
    assert len(read(out)) == n_right


def test_forms_say_the_same(files: dict[str, Path]) -> None:
    for sharegpt, openai, trl in zip(*(read(files[form]) for form in FORMS), strict=True):
        assert [m["role"] for m in openai["messages"]] == [m["role"] for m in trl["messages"]]
        assert openai["messages"][0]["content"] == sharegpt["system"]
        assert json.loads(sharegpt["tools"]) == [tool["function"] for tool in trl["tools"]]
        for ours, theirs in zip(openai["messages"], trl["messages"], strict=True):
            for a, b in zip(ours.get("tool_calls", []), theirs.get("tool_calls", []), strict=True):
                assert json.loads(a["function"]["arguments"]) == b["function"]["arguments"]
        kinds = [said["from"] for said in sharegpt["conversations"]]
        assert kinds[:2] == ["human", "function_call"]
        assert kinds[-1] == "gpt"
        assert trl["messages"][2]["content"] == "I look."
        assert trl["messages"][-1]["tool_calls"][0]["function"]["name"] == "answer"


def test_predictions_for_lmms_eval(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    assert main([str(run), "--to", "lmms-eval", "--out", str(out)]) == 0
    for row, trajectory in zip(
        read(out), lv.read_trajectories(run / "episodes.jsonl"), strict=True
    ):
        assert row["doc_id"] == trajectory.qid
        assert row["longvideo_env_score"] == float(bool(trajectory.correct))
        assert (row["filtered_resps"] == row["target"]) == trajectory.correct
        assert len(row["doc_hash"]) == 64


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--to", "trl"]) == 1
    (tmp_path / "episodes.jsonl").write_text("{}\n", encoding="utf-8")
    for config in ("[]", "{", '{"dataset": "embedded"}'):
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
        assert main([str(tmp_path), "--to", "trl"]) == 1
    assert main([str(tmp_path), "--to", "lmms-eval", "--min-reward", "1"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 5
    assert said.count("Fix:") >= 3


SFT = """
import sys
import torch
from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer
from trl.chat_template_utils import qwen3_chat_template

torch.set_num_threads(1)
model, file, form, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
tokenizer.chat_template = qwen3_chat_template
rows = load_dataset("json", data_files=file, split="train", cache_dir=out)
if form == "sharegpt":
    roles = {"human": "user", "observation": "tool"}
    rows = rows.map(
        lambda row: {
            "messages": [{"role": "system", "content": row["system"]}]
            + [
                {"role": roles.get(said["from"], "assistant"), "content": said["value"]}
                for said in row["conversations"]
            ]
        },
        remove_columns=["conversations", "system"],
    )
trainer = SFTTrainer(
    model,
    args=SFTConfig(output_dir=out, max_steps=1, use_cpu=True, bf16=False, report_to=[],
                   save_strategy="no", max_length=None),
    train_dataset=rows,
    processing_class=tokenizer,
)
text = tokenizer.decode(trainer.train_dataset[0]["input_ids"])
assert '"query": null' not in text and '"answer": null' not in text, text
assert "<tool_call>" in text or form == "sharegpt", text
trainer.train()
print("loss", trainer.state.log_history[-1]["train_loss"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_trl_trains_a_step_on_each(form: str, files: dict[str, Path], tmp_path: Path) -> None:
    from train.tiny_model import make_tiny_model

    model = make_tiny_model(tmp_path / "tiny")
    named = files[form].rename(files[form].with_suffix(".jsonl"))
    (tmp_path / "step.py").write_text(SFT, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "step.py"), str(model), str(named), form]
    done = subprocess.run(
        [*command, str(tmp_path / "out")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split("loss")[-1]) > 0


def by_calls(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Reasons in a separate field and in the text, looks, then answers."""
    last = any(message["role"] == "tool" for message in messages)
    name, given = ("answer", {"answer": "a0"}) if last else ("look", {"query": "mug"})
    function = {"name": name, "arguments": json.dumps(given)}
    aloud = "" if last else "I look."
    message = {"role": "assistant", "content": aloud, "reasoning_content": "Hm, the mug."}
    return message | {"tool_calls": [{"type": "function", "function": function}]}


def test_reasoning_that_was_kept_apart_is_kept(tmp_path: Path) -> None:
    result = lv.evaluate(
        by_calls, dataset="embedded", split="train", out=tmp_path, limit=3, protocol="functions"
    )
    found = {}
    for form in FORMS:
        out = tmp_path / form
        assert main([str(result.folder), "--to", form, "--min-reward", "0", "--out", str(out)]) == 0
        found[form] = read(out)
    for sharegpt, openai, trl in zip(*found.values(), strict=True):
        first, last = (m for m in trl["messages"] if m["role"] == "assistant")
        assert (first["reasoning_content"], first["content"]) == ("Hm, the mug.", "I look.")
        assert (last["reasoning_content"], last["content"]) == ("Hm, the mug.", "")
        first, last = (m for m in openai["messages"] if m["role"] == "assistant")
        assert (first["content"], last["content"]) == ("Hm, the mug.\nI look.", "Hm, the mug.")
        assert not any("reasoning_content" in message for message in openai["messages"])
        value = sharegpt["conversations"][1]["value"]
        assert value.startswith("<think>\nHm, the mug.\nI look.\n</think>\n\n{")
