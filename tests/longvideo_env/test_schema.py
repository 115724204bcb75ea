import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.schema import Clip, Gold, Question, Task, Video


def video(n):
    return Video("v", tuple(Clip(f"v_seg01_clip_{i:02d}") for i in range(n)))


def ids(window):
    return [int(clip_id[-2:]) for clip_id in window]


def test_window_is_centred_and_shifted_at_the_ends():
    film = video(10)
    at = film.clip_ids
    assert ids(film.window(at[4], 1)) == [4]
    assert ids(film.window(at[4], 2)) == [4, 5]
    assert ids(film.window(at[4], 3)) == [3, 4, 5]
    assert ids(film.window(at[4], 5)) == [2, 3, 4, 5, 6]
    assert ids(film.window(at[0], 3)) == [0, 1, 2]
    assert ids(film.window(at[9], 2)) == [8, 9]


@given(st.integers(1, 12), st.integers(1, 5), st.data())
def test_window_always_holds_its_clip_and_keeps_its_size(n, size, data):
    film = video(n)
    clip_id = film.clip_ids[data.draw(st.integers(0, n - 1))]
    window = film.window(clip_id, size)
    assert clip_id in window
    assert len(window) == min(size, n)
    assert list(ids(window)) == list(range(ids(window)[0], ids(window)[0] + len(window)))


TASK = Task(Question(1, "q", ("w", "x", "y"), "v"), Gold(answer=2))


def test_reorder_moves_options_and_answer_together():
    moved = TASK.reorder((2, 0, 1))
    assert moved.question.options == ("y", "w", "x")
    assert moved.gold.answer == 0
    assert TASK.question.options == ("w", "x", "y")


@given(st.permutations(range(3)))
def test_reorder_keeps_the_right_option_right(order):
    moved = TASK.reorder(order)
    assert moved.question.options[moved.gold.answer] == "y"


def test_reorder_refuses_what_is_no_permutation():
    with pytest.raises(ValueError, match="permutation"):
        TASK.reorder((0, 0, 1))


def test_gold_repr_does_not_print_boxes():
    assert "boxes" not in repr(Gold(boxes={"1": [{"label": "mug"}]}))
