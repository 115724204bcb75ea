# ruff: noqa: RUF001
"""Actions inside open reasoning do not count, in every format that models write."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from longvideo_env.game.game import default_game
from longvideo_env.game.protocol.base import Action, Malformed, MalformedKind
from longvideo_env.game.protocol.reasoning import cut_reasoning, open_reasoning, without_thinking

PROTOCOL = default_game().protocol
FORMS = {
    "<reasoning>": "</reasoning>",
    "<think>": "</think>",
    "<THINK >": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel>thought\n": "<channel|>",
    "<|channel>": "<channel|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    '<think type="deep">': "</think>",
    "<scratchpad>": "</scratchpad>",
    "to=self<|message|>": "<|eom|>",
    "<|channel|>analysis<|message|>": "<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel|>commentary to=x<|message|>": "<|channel|>final<|message|>",
}
forms = st.sampled_from(sorted(FORMS))
drafts = st.sampled_from(
    ["<answer>a0</answer>", "<search>who</search>", "<request_grounding/>", ""]
)
words = st.text(alphabet="ab \n<>/[]|", max_size=30)


@given(forms, drafts, words, words)
@example("<thinking>", "<answer>a0</answer>", "maybe ", " no")
def test_a_draft_in_the_reasoning_is_no_answer(form, draft, before, after):
    thought = f"{before}{draft}{after}".replace("<", "< ") if not draft else f"{before} {draft}"
    reply = f"{form}{thought}{FORMS[form]}<answer>a1</answer>"
    parsed = PROTOCOL.parse(reply, 5)
    if cut_reasoning(f"{form}{thought}")[2] is None:
        return  # the drawn words closed it themselves
    assert parsed.outcome == Action("answer", "a1")
    assert PROTOCOL.complete(reply)


@given(forms, drafts)
def test_nothing_is_complete_while_reasoning_is_open(form, draft):
    text = f"x {form} perhaps {draft}"
    assert not PROTOCOL.complete(text)
    assert open_reasoning(text) == text[2:]
    outcome = PROTOCOL.parse(text, 5).outcome
    assert isinstance(outcome, Malformed)
    assert outcome.kind is MalformedKind.UNCLOSED
    assert "is not closed." in default_game().problem_text(outcome)


@given(forms)
def test_a_template_may_have_opened_it(form):
    reply = f"I guess <answer>a0</answer>{FORMS[form]}<answer>a1</answer>"
    if form.startswith(("<|channel|>", "to=self")):
        reply = f"{form}{reply}"
    assert PROTOCOL.parse(reply, 5).outcome == Action("answer", "a1")


def test_a_mark_in_other_reasoning_is_text():
    reply = "<think>it says <|channel|>analysis<|message|>x</think><answer>a1</answer><|end|>"
    assert PROTOCOL.parse(reply, 5).outcome == Action("answer", "a1")


def test_only_the_models_own_thinking_is_left_out():
    reply = "[THINK]long[/THINK]<reasoning>short</reasoning><search>x</search>"
    assert without_thinking(reply) == "<reasoning>short</reasoning><search>x</search>"
    assert without_thinking("so</think>\n<search>x</search>") == "<search>x</search>"
    assert without_thinking("<think>never closed") == "<think>never closed"


def test_another_model_ends_its_turn_with_the_same_token():
    parsed = PROTOCOL.parse("<answer>a1</answer><|end|>", 5)
    assert parsed.outcome == Action("answer", "a1")


@given(st.text())
@example("<anſwer>a1</anſwer>")
@example("<thınk><reaſoning><ſearch>")
@example("<ANSWER>a1</ANSWER><\u212aind>")
def test_no_text_raises(text):
    for reply in (text, f"<think>{text}", f"<answer>{text}</answer>", f"<search>{text}</search>"):
        parsed = PROTOCOL.parse(reply, 5)
        assert isinstance(parsed.outcome, Action | Malformed)
        PROTOCOL.complete(reply)
        if isinstance(parsed.outcome, Malformed):
            assert default_game().malformed_text(parsed.outcome, 3, 5)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["<think>", "</think>", "[THINK]", "<answer>", "</answer>", "<"])
def test_long_hostile_text_takes_a_moment(part):
    PROTOCOL.parse(part * 100_000, 5)
    PROTOCOL.complete(part * 100_000)
