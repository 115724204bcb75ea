"""inspect_ai plays the game with its own client and log."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("inspect_ai")

from inspect_ai import eval as inspect_eval
from inspect_ai.log import read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.tool import ToolCall

import longvideo_env as lv
from longvideo_env.integrations.inspect import longtvqa
from longvideo_env.tools.tool import ToolCall as GameCall

pytestmark = [pytest.mark.doors, pytest.mark.filterwarnings("ignore")]

VOCABULARY = """
import tiktoken.registry as registry
from tiktoken import Encoding
ranks = {bytes([i]): i for i in range(256)}
registry.ENCODINGS["o200k_base"] = Encoding(
    "o200k_base", pat_str=".", mergeable_ranks=ranks, special_tokens={}
)
"""
"""inspect_ai's mock model counts tokens with a vocabulary that lies on the network."""


def boom(request: GameCall) -> str:
    """Breaks down."""
    raise RuntimeError("boom")


def calls(*given: tuple[str, dict[str, Any]], text: str = "") -> ModelOutput:
    output = ModelOutput.from_content("mockllm/model", text)
    output.message.tool_calls = [
        ToolCall(id=f"c{i}", function=name, arguments=values)
        for i, (name, values) in enumerate(given)
    ] or None
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output


def play(tmp_path: Path, write: Any, **options: Any) -> Any:
    """An evaluation whose replies come from a function of the messages and tools."""
    model = get_model(
        "mockllm/model",
        custom_outputs=lambda messages, tools, choice, config: write(messages, tools),
        memoize=False,
    )
    (log,) = inspect_eval(
        longtvqa(dataset="embedded", split="train", **options),
        model=model,
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success", log.error
    return read_eval_log(log.location)


def metric(log: Any, score: str, name: str) -> float:
    (found,) = [s for s in log.results.scores if s.name == score]
    return float(found.metrics[name].value)


def look_then_first(messages: Any, tools: Any) -> ModelOutput:
    if messages[-1].role == "user":
        return calls(("look", {"query": "mug"}))
    return calls(("answer", {"answer": "a0"}))


def test_accuracy_and_reward_are_ours(tmp_path: Path) -> None:
    log = play(tmp_path, look_then_first)

    def same(messages: list[dict[str, str]]) -> str:
        return "<search>mug</search>" if len(messages) < 3 else "<answer>a0</answer>"

    ours = lv.evaluate(same, dataset="embedded", split="train", progress=False)
    assert metric(log, "accuracy", "accuracy") == pytest.approx(ours.accuracy)
    assert metric(log, "reward", "mean") == pytest.approx(ours.summary["mean_reward"])
    assert metric(log, "accuracy", "stderr") > 0
    assert metric(log, "tool_calls", "mean") == 1


def test_the_log_holds_each_turn_and_tool_call(tmp_path: Path) -> None:
    log = play(tmp_path, look_then_first, limit=2)
    for sample in log.samples:
        roles = [message.role for message in sample.messages]
        assert roles == ["system", "user", "assistant", "tool", "assistant", "tool"]
        assert sample.messages[3].function == "look"
        tools = [event for event in sample.events if event.event == "tool"]
        assert [(e.function, e.arguments) for e in tools] == [
            ("look", {"query": "mug"}),
            ("answer", {"answer": "a0"}),
        ]
        assert sample.scores["longtvqa"].answer == "a0"
        assert sample.metadata["video_id"]


def test_tools_are_ours_and_gold_is_shown_to_no_model(tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []

    def write(messages: Any, tools: Any) -> ModelOutput:
        said = [message.text for message in messages]
        offered = [tool.model_dump_json() for tool in tools]
        shown.append((messages[1].text, "\n".join([*said, *offered])))
        assert {tool.name for tool in tools} == {"look", "ground", "answer"}
        return look_then_first(messages, tools)

    play(tmp_path, write, limit=3)
    dataset = lv.load_dataset("embedded", "train")
    for task in dataset.tasks[:3]:
        texts = [text for opening, text in shown if task.question.text in opening]
        assert len(texts) == 2
        labels = [box["label"] for boxes in (task.gold.boxes or {}).values() for box in boxes]
        assert not any("target" in text or '"gold"' in text for text in texts)
        assert not any(f'"{label}"' in text for text in texts for label in labels)


BAD = [
    [],
    [("answer", {"answer": "a0"}), ("look", {"query": "x"})],
    [("look", {"query": ["x"]})],
    [("nope", {})],
    [("look", {"query": "x", "more": 1})],
    [("answer", {"answer": "a99"})],
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_is_wrong_costs_one_turn(bad: Any, tmp_path: Path) -> None:
    log = play(tmp_path, lambda messages, tools: calls(*bad), limit=1, max_turns=3)
    assert metric(log, "turns", "mean") == 3
    assert metric(log, "malformed", "mean") == 3
    assert metric(log, "accuracy", "accuracy") == 0


def test_reasoning_beside_a_call_counts(tmp_path: Path) -> None:
    def write(text: str) -> Any:
        return lambda messages, tools: calls(("answer", {"answer": "a0"}), text=text)

    with_text = play(tmp_path, write("I think."), limit=1, reward="reference")
    without = play(tmp_path, write(""), limit=1, reward="reference")
    gain = metric(with_text, "reward", "mean") - metric(without, "reward", "mean")
    assert gain == pytest.approx(0.2)


def test_a_failed_tool_is_no_score(tmp_path: Path) -> None:
    log = play(tmp_path, lambda m, t: calls(("boom", {})), limit=2, tools=[boom])
    assert all(score.unscored_samples == 2 for score in log.results.scores)
    assert "boom" in log.samples[0].scores["longtvqa"].explanation


def test_the_command_line_finds_the_task(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(VOCABULARY, encoding="utf-8")
    program = Path(sys.executable).parent / "inspect"
    page = (Path(__file__).parents[3] / "docs" / "integrations.md").read_text("utf-8")
    shown = page.split("```bash inspect\n")[1].split("\n```")[0]
    command = f"{program}{shown.removeprefix('inspect')} --log-dir {tmp_path / 'logs'}"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command.split(),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (tmp_path / "logs").glob("*.eval")
    log = read_eval_log(str(file))
    assert log.status == "success"
    assert len(log.samples) == 3
    assert metric(log, "accuracy", "accuracy") == 0


TURNS = st.lists(
    st.sampled_from(
        [
            (("look", {"query": "a red box"}), "<search>a red box</search>"),
            (
                ("ground", {"query": "who is there"}),
                "<request_grounding>who is there</request_grounding>",
            ),
            (("answer", {"answer": "a9"}), "<answer>a9</answer>"),
        ]
    ),
    max_size=4,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=TURNS, label=st.sampled_from(["a0", "a1", "a2"]), seed=st.integers(0, 2**31))
def test_the_reward_is_that_of_gym_over_seeds(
    tmp_path: Path, turns: Any, label: str, seed: int
) -> None:
    said = [*turns, (("answer", {"answer": label}), f"<answer>{label}</answer>")]

    def write(messages: Any, tools: Any) -> ModelOutput:
        call, _ = said[sum(message.role == "assistant" for message in messages)]
        return calls(call)

    options = {"shuffle_options": True, "seed": seed, "limit": 2, "max_turns": 5}
    log = play(tmp_path / str(seed), write, **options)
    env = gym.make("LongTVQA-v0", dataset="embedded", split="train", shuffle_options=True)
    rewards = []
    for sample in log.samples:
        env.reset(seed=seed, options={"qid": int(sample.id)})
        for _, text in said:
            _, reward, terminated, truncated, _ = env.step(text)
            if terminated or truncated:
                break
        rewards.append(reward)
    assert metric(log, "reward", "mean") == pytest.approx(sum(rewards) / len(rewards))
