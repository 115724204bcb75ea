import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.choices import equal_options, name_labels, pinned_options, points_at_others
from longvideo_env.schema import Gold, Question, Task
from longvideo_env.seeding import draw_option_order

POINTING = [
    "All of the above.", "None of the above", "Both A and B", "Neither A nor B.", "A and C",
    "A, B and C", "Options A and B", "Both of them", "neither", "None of these options",
    "all of the other options", "Any of them", "A & B", "both a0 and a1",
]  # fmt: skip
PLAIN = ["A cat and B cell", "Vitamins A and C", "above the door", "a dog", "Plan A", "Bob and Al"]


@pytest.mark.parametrize("option", POINTING)
def test_options_that_point_at_others(option: str) -> None:
    assert points_at_others(option)


@pytest.mark.parametrize("option", PLAIN)
def test_options_that_do_not(option: str) -> None:
    assert not points_at_others(option)


@given(st.integers(0, 10_000))
def test_pinned_options_stay_and_name_the_same(seed: int) -> None:
    options = name_labels(("pears", "plums", "Both A and B", "figs", "None of the above"))
    task = Task(Question(1, "?", options, "v"), Gold(answer=2))
    pinned = pinned_options(options)
    assert pinned == (2, 4)
    moved = task.reorder(draw_option_order(5, seed, pinned=pinned))
    shown = moved.question.options
    assert moved.gold.answer == 2
    assert shown[4] == "None of the above"
    named = {
        shown[int(label[1])] for label in shown[2].split() if label[0] == "a" and label != "and"
    }
    assert named == {"pears", "plums"}


def test_without_pinned_options_the_order_is_as_before() -> None:
    assert draw_option_order(5, 7) == draw_option_order(5, 7, pinned=())


def test_the_twin_of_the_right_option_counts_as_right() -> None:
    assert equal_options(("Six", "Three", "Three")) == ((1, 2),)
    task = Task(Question(1, "?", ("Six", "Three", "Three"), "v"), Gold(answer=1, twins=(2,)))
    assert [task.gold.is_right(i) for i in (0, 1, 2, None)] == [False, True, True, False]
    moved = task.reorder((2, 0, 1))
    assert [moved.gold.is_right(i) for i in range(3)] == [True, False, True]
    assert Gold().is_right(0) is None
