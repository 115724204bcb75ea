# ruff: noqa: RUF001
"""The option that an answer names, by the rule in `answers`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.game.game import default_game
from longvideo_env.game.protocol.answers import read_answer
from longvideo_env.game.protocol.base import Malformed, MalformedKind

OPTIONS = ("sits", "He stands.", "runs", "stands", "sleeps")


@pytest.mark.parametrize(
    "text",
    [
        *("a1", "A1", " a1 ", "a1.", "(a1)", "[a1]", '"a1"', "`a1`", "**a1**", "**a1**.", "a1:"),
        *(
            "option a1",
            "Option a1.",
            "a1: He stands.",
            "a1 - he stands",
            "**a1**: He stands",
            "a1) he stands",
        ),
        *(
            r"\boxed{a1}",
            r"$\boxed{a1}$",
            r"\boxed{\text{a1}}",
            "“a1”",
        ),
    ],
)
def test_understood(text):
    assert read_answer(text, OPTIONS) == 1


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a3 or a1",
            "a1, a2",
            "a1: not a2",
            "a1: no, the last",
            "a1.5",
            "a1:00",
            "a1: stands",
            "I think a1",
            "a1 is wrong",
            "B",
            "1",
            "b1",
            "aa1",
        ),
        *("the answer is a1", "a", "", "٣", "a１", "a1a2", "not a1", "a1?", "stands", "a1" * 2000),
    ],
)
def test_not_read_out_of_prose(text):
    assert read_answer(text, OPTIONS) is MalformedKind.NOT_A_LABEL
    assert read_answer(text, 5) is MalformedKind.NOT_A_LABEL


@pytest.mark.parametrize("text", ["a5", "a9", "a99", "a" + "9" * 5000])
def test_no_such_option(text):
    expected = MalformedKind.NOT_A_LABEL if len(text) > 2000 else MalformedKind.UNKNOWN_OPTION
    assert read_answer(text, 5) is expected


def test_what_is_said_of_it_is_true():
    game = default_game()

    def said(text):
        outcome = game.protocol.parse(f"<answer>{text}</answer>", 5).outcome
        assert isinstance(outcome, Malformed)
        return game.problem_text(outcome)

    assert said("a9") == "'a9' is not one of the options a0 to a4."
    assert said("B") == "'B' is not a label. Write the label alone, such as a0."


@given(st.text(), st.integers(2, 8))
def test_any_text(text, n_options):
    found = read_answer(text, n_options)
    assert isinstance(found, MalformedKind) or 0 <= found < n_options
