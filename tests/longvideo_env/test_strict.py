import json

import gymnasium as gym
import numpy as np
import pytest

from agents.generation.settings import GenerationSettings
from eval.run_policy import main
from eval.runs.run_options import RunOptions
from eval.runs.selection import QuestionSelection
from longvideo_env import EnvConfig, ToolCall
from longvideo_env.errors import ActionError, SpecError
from longvideo_env.game.reward import parse_reward
from longvideo_env.strict import plain_text
from longvideo_env.tools.tool import as_tool

WRONG_NUMBERS = [float("nan"), float("inf"), True, "3"]


@pytest.fixture
def env():
    made = gym.make("LongTVQA-v0", dataset="embedded", disable_env_checker=True)
    made.reset(seed=0)
    return made


@pytest.mark.parametrize(
    "action",
    [b"<answer>a0</answer>", bytearray(b"x"), 3, None, float("nan"), True, ["<answer>a0</answer>"],
     np.array("<answer>a0</answer>"), np.bytes_(b"<answer>a0</answer>")],
)  # fmt: skip
def test_an_action_that_is_no_text_is_a_named_error_and_costs_nothing(env, action):
    with pytest.raises(ActionError, match="expected the reply as text, got"):
        env.step(action)
    assert env.step("<answer>a0</answer>")[2] is True


def test_a_numpy_string_is_text(env):
    env.step(np.str_("<answer>a0</answer>"))
    message = env.unwrapped._episode.messages[-1]
    assert type(message["content"]) is str


def test_half_a_pair_of_utf_16_can_be_written(env):
    out = env.step("<search>\ud800 who?</search>")
    json.dumps(out[4], ensure_ascii=False).encode()
    assert plain_text("a\udfff") == "a\ufffd"


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["<search>", "<think ", "</think>", "[THINK]", "a", "<answer>a0</answer>"]
)
def test_ten_megabytes_are_a_turn_like_any_other(env, piece):
    out = env.step("<answer>" + piece * (10_000_000 // len(piece)))
    assert out[4]["malformed"] == "unclosed" or out[2] is False


@pytest.mark.parametrize("value", WRONG_NUMBERS)
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (EnvConfig, "max_turns"),
        (EnvConfig, "window"),
        (GenerationSettings, "temperature"),
        (GenerationSettings, "max_turn_tokens"),
    ],
)
def test_a_number_is_a_number(make, name, value):
    with pytest.raises(SpecError, match=f"^{name}: "):
        make(**{name: value})


@pytest.mark.parametrize("value", WRONG_NUMBERS)
@pytest.mark.parametrize("name", ["seed", "samples", "concurrency"])
def test_a_run_counts_in_whole_numbers(tmp_path, name, value):
    options = {
        "policies": ["random"], "out": tmp_path, "seed": 0, "concurrency": 1, "overwrite": False,
    }  # fmt: skip
    RunOptions(**options)
    with pytest.raises(SpecError, match=f"^{name}: "):
        RunOptions(**options | {name: value})


@pytest.mark.parametrize("value", WRONG_NUMBERS)
@pytest.mark.parametrize("name", ["limit", "shuffle"])
def test_a_selection_counts_in_whole_numbers(name, value):
    with pytest.raises(SpecError, match=f"^{name}: "):
        QuestionSelection(**{name: value})


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), True, "nan", "many"])
def test_a_weight_is_a_finite_number(value):
    with pytest.raises(SpecError, match="must be"):
        parse_reward({"answer": value})


@pytest.mark.parametrize("spec", ["temperature=nan", "temperature=inf", "temperature=true"])
def test_an_option_of_a_spec_is_a_finite_number(tmp_path, capsys, spec):
    code = main(
        ["--policy", "random", "--vision", f"openai:m@http://h/v1,{spec}", "--out", str(tmp_path)]
    )
    assert code == 2
    assert "temperature is a finite number" in capsys.readouterr().err


def zoom(request: ToolCall, factor: float, clip: int = 0, wide: bool = False) -> str:
    """Shows more of a clip.

    Args:
        factor: how much larger
        clip: which clip
        wide: whether the sides are shown too
    """
    return f"{factor} {clip} {wide}"


@pytest.mark.parametrize(
    "text",
    ['{"factor": true}', '{"factor": NaN}', '{"factor": 1e999}', '{"factor": 2, "clip": false}',
     '{"factor": 2, "clip": 1.5}', '{"factor": 2, "clip": "' + "9" * 5000 + '"}',
     '{"factor": ' + "[" * 100_000],
)  # fmt: skip
def test_an_argument_that_is_no_number_is_a_malformed_turn(text):
    made = gym.make("LongTVQA-v0", dataset="embedded", tools=[zoom], disable_env_checker=True)
    made.reset(seed=0)
    assert made.step(f"<zoom>{text}</zoom>")[4]["malformed"] == "wrong_arguments"
    good = '<zoom>{"factor": 2, "clip": 1, "wide": true}</zoom>'
    assert "2.0 1 True" in made.step(good)[0]


def test_true_is_good_where_true_is_meant():
    assert as_tool(zoom).check({"factor": 1, "wide": True}) == {
        "factor": 1.0, "clip": 0, "wide": True,
    }  # fmt: skip
