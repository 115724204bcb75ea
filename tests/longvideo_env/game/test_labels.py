"""Labels of options: shown, written, read and refused."""

import json

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

import longvideo_env as lv
from longvideo_env.config import LABELS, EnvConfig
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game, GameSpec
from longvideo_env.game.protocol.answers import AnswerForm, read_answer
from longvideo_env.game.protocol.base import ANSWER, Action, Malformed, MalformedKind, option_label

OPTIONS = ("He stands.", "Both a0 and a2.", "She runs.")
FIRST = {"a0": "a0", "letters": "A", "numbers": "1"}


@given(st.sampled_from(LABELS), st.sampled_from(["tags", "functions"]), st.integers(0, 15))
def test_what_is_written_is_read(labels, protocol, choice):
    game = Game.from_config(EnvConfig(labels=labels, protocol=protocol))
    text = game.protocol.write(Action(ANSWER, option_label(choice)), "Because.")
    assert game.protocol.answers.label(choice) in text
    outcome = game.protocol.parse(text, 16).outcome
    assert outcome == Action(ANSWER, option_label(choice))


@given(st.sampled_from(LABELS), st.text(max_size=40))
def test_any_text_is_an_option_or_a_kind_of_mistake(labels, text):
    found = read_answer(text, OPTIONS, labels)
    assert isinstance(found, MalformedKind) or 0 <= found < 3
    assert isinstance(AnswerForm(labels=labels).read(text, OPTIONS), Action | Malformed)


@pytest.mark.parametrize(
    ("labels", "text", "choice"),
    [
        ("letters", "B", 1),
        ("letters", "(b).", 1),
        ("letters", "option C", 2),
        ("letters", r"\boxed{\text{A}}", 0),
        ("letters", "C: She runs.", 2),
        ("letters", "B. Both A and C", 1),
        ("numbers", "**3**", 2),
        ("numbers", "1) he stands", 0),
        ("letters", "a1", None),
        ("letters", "2", None),
        ("letters", "A or B", None),
        ("letters", "A: She runs.", None),
        ("letters", "D", None),
        ("numbers", "0", None),
        ("numbers", "4", None),
        ("numbers", "B", None),
        ("numbers", "a1", None),
        ("numbers", "1" * 5000, None),
        ("a0", "B", None),
    ],
)
def test_one_rule_for_each_kind(labels, text, choice):
    found = read_answer(text, OPTIONS, labels)
    assert (found if isinstance(found, int) else None) == choice


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("protocol", ["tags", "functions"])
def test_prompts_and_mistakes_name_the_labels_in_force(labels, protocol):
    rows = [{"qid": 1, "question": "Q?", "a0": "x", "a1": "both A and C", "a2": "z", "answer": 1,
             "video": "v"}]  # fmt: skip
    env = gym.make(
        "LongTVQA-v0", dataset=lv.load_dataset(rows, "val"), split="val", labels=labels,
        protocol=protocol, grounding="none",
    )  # fmt: skip
    text, info = env.reset()
    form = AnswerForm(labels=labels)
    first, last = form.label(0), form.label(2)
    assert f"{first}: x\n{form.label(1)}: both {first} and {last}\n{last}: z" in text
    shown = text + json.dumps(info.get("tools", []))
    assert f"{first} to {last}" in shown
    assert ("a0" in shown) is (labels == "a0")
    wrong = "<answer>zz</answer>"
    if protocol == "functions":
        wrong = '{"name": "answer", "arguments": {"answer": "zz"}}'
    heard = env.step(wrong)[0]
    assert f"such as {first}." in heard
    right = wrong.replace("zz", form.label(1))
    assert env.step(right)[1] == pytest.approx(1.05)


def test_a_game_may_have_labels_of_its_own():
    import sys
    from types import ModuleType

    module = ModuleType("lettered_game")
    module.GAME = GameSpec(tools=("look",), labels="letters")
    sys.modules["lettered_game"] = module
    config = EnvConfig(game="lettered_game:GAME")
    assert config.labels == "letters"
    assert "labels" not in config.record()
    assert EnvConfig(game="lettered_game:GAME", labels="a0").record()["labels"] == "a0"
    assert EnvConfig(labels="letters").record()["labels"] == "letters"
    with pytest.raises(SpecError, match="labels"):
        EnvConfig(labels="I, II, III")


def test_a_run_with_letters_is_played_alike(tmp_path):
    """A script's choice does not depend on the shown labels. Internally, labels are the same."""
    runs = [
        lv.evaluate("scripted:ground-answer", dataset="mini:videos=6", split="test", labels=labels,
                    out=tmp_path / labels)
        for labels in LABELS
    ]  # fmt: skip
    choices = [[t.choice for t in run.episodes] for run in runs]
    assert choices[0] == choices[1] == choices[2]
    assert FIRST["letters"] in runs[1].episodes[0].segments[0].text
