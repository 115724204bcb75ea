import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.datasets.kinds import question_kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("What did Leonard say when Penny came in ?", "what"),
        ("When Penny came in, what did Leonard say?", "what"),
        ("Whose mug is it?", "who"),
        ("What's on the table?", "what"),
        ("When does he leave?", "when"),
        ("Is Sheldon there?", "other"),
        ("", "other"),
    ],
)
def test_the_question_word_is_the_kind(text, kind):
    assert question_kind(text) == kind


@given(st.text())
def test_any_text_has_a_kind(text):
    assert question_kind(text)
