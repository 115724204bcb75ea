import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.rows import RowPlace, clip_named_by, read_task, read_tasks
from longvideo_env.errors import (
    AnswerOutOfRangeError,
    DuplicateQidError,
    ForeignClipError,
    InvalidRowError,
    MissingOptionError,
)
from longvideo_env.schema import Gold, Question, Task

FILE = Path("questions.json")
PLACE = RowPlace(FILE, 7)
MINIMAL = {"qid": 1, "q": "What?", "a0": "x", "a1": "y", "vid_name": "s05e02_seg02_clip_00"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def task_of(**changes: Any) -> Task:
    return read_task({**MINIMAL, **changes}, PLACE)


def test_a_longtvqa_plus_row(row: dict[str, Any]) -> None:
    assert read_task(row, PLACE) == Task(
        Question(1, "What is on the table ?", ("a lamp", "a cup", "a book"), "s05e02"),
        Gold(2, "s05e02_seg02_clip_00", (1.5, 7.0), row["bbox"]),
    )


def test_a_tvqa_plus_row() -> None:
    task = task_of(answer_idx="1", ts=[0, 5.4], bbox={})
    assert task.gold == Gold(1, "s05e02_seg02_clip_00", (0.0, 5.4), {})
    assert task.question.video_id == "s05e02"


def test_a_tvqa_row() -> None:
    task = task_of(
        answer_idx=1,
        ts="48.62-60.02",
        vid_name="friends_s09e23-24_seg02_clip_12",
        show_name="Friends",
    )
    assert task.gold == Gold(1, "friends_s09e23-24_seg02_clip_12", (48.62, 60.02))
    assert task.question.video_id == "friends_s09e23-24"
    assert task.question.show == "Friends"


def test_a_test_row_has_no_gold_but_its_clip() -> None:
    assert task_of().gold == Gold(clip_id="s05e02_seg02_clip_00")


def test_a_row_may_name_its_video_only() -> None:
    task = task_of(vid_name=None, episode_name="castle_s01e01")
    assert task.question.video_id == "castle_s01e01"
    assert task.gold.clip_id is None


@pytest.mark.parametrize("form", [int, str, "a{}".format, " a{} ".format])
@given(n_options=st.integers(2, 8), data=st.data())
def test_every_form_of_a_right_answer(form: Any, n_options: int, data: st.DataObject) -> None:
    answer = data.draw(st.integers(0, n_options - 1))
    options = {f"a{i}": f"option {i}" for i in range(n_options)}
    task = task_of(**options, answer=form(answer))
    assert task.gold.answer == answer
    assert task.question.options == tuple(options.values())


@pytest.mark.parametrize("key", ["answer", "answer_idx"])
@pytest.mark.parametrize(
    "answer",
    [True, False, 2, -1, "2", "-1", "a2", "", "b1", "aa1", "a", "1 or 0", "\u0660", 1.0, math.nan,
     [0], {}, "9" * 5000, 10**400],
)  # fmt: skip
def test_answers_out_of_range(key: str, answer: Any) -> None:
    with pytest.raises(AnswerOutOfRangeError, match=r"row 7: question 1: expected an answer"):
        task_of(**{key: answer})


@pytest.mark.parametrize("answer", [None, "a0"])
def test_answer_goes_before_answer_idx(answer: str | None) -> None:
    assert task_of(answer=answer, answer_idx=1).gold.answer == (1 if answer is None else 0)


@given(start=st.floats(0, 1e4), length=st.floats(0, 1e3))
def test_spans_as_list_and_as_text_agree(start: float, length: float) -> None:
    end = start + length
    assert task_of(ts=[start, end]).gold.span == (start, end)
    assert task_of(ts=f"{start}-{end}").gold.span == (start, end)


@pytest.mark.parametrize(
    "ts",
    [None, math.nan, math.inf, "NaN-NaN", "nan", " ", "nan-3", "5-nan", [math.nan, 3], [None, None],
     [0, math.inf], [0, 10**400]],
)  # fmt: skip
def test_numbers_that_name_no_stretch_of_time_give_no_span(ts: Any) -> None:
    assert task_of(ts=ts).gold.span is None


@pytest.mark.parametrize("ts", [[5, 4], "5-4", [-1, 4], "-1-4", [-3, 9999], [14, 10]])
def test_spans_that_run_backwards_are_errors(ts: Any) -> None:
    with pytest.raises(InvalidRowError, match="expected 'ts' with a start from 0 on"):
        task_of(ts=ts)


@pytest.mark.parametrize(("wrong", "right"), [("anser", "answer"), ("occur_clp", "occur_clip")])
def test_a_misspelt_key_is_an_error(wrong: str, right: str, row: dict[str, Any]) -> None:
    value = row.pop(right)
    with pytest.raises(InvalidRowError, match=f"expected the key '{right}', got '{wrong}'"):
        read_task({**row, wrong: value}, RowPlace(FILE, 1))


def test_a_span_of_no_length_is_kept() -> None:
    assert task_of(ts="19.18-19.18").gold.span == (19.18, 19.18)


@pytest.mark.parametrize(
    "ts", ["soon", "1", "1-2-3", 5, True, [1], [1, 2, 3], ["1", 2], [True, 2], {}]
)
def test_spans_of_another_shape_are_errors(ts: Any) -> None:
    with pytest.raises(InvalidRowError, match="question 1: expected 'ts'"):
        task_of(ts=ts)


@pytest.mark.parametrize(
    "options",
    [{}, {"a0": "x"}, {"a0": "x", "a2": "y"}, {"a1": "x", "a2": "y"},
     {f"a{i}": "x" for i in range(17)}, {"a0": "x", "a1": ""}, {"a0": "x", "a1": " \n"},
     {"a0": "x", "a1": None}, {"a0": "x", "a1": 3}, {"a0": "x", "a1": "\ud83d"},
     {"a0": "x", "a1": "y", "a02": "z"}],
)  # fmt: skip
def test_missing_options(options: dict[str, Any]) -> None:
    bare = {key: value for key, value in MINIMAL.items() if key not in ("a0", "a1")}
    with pytest.raises(MissingOptionError, match=r"row 7: question 1: expected"):
        read_task({**bare, **options}, PLACE)


def test_text_keeps_its_characters_but_outer_space() -> None:
    odd = "שלום \u202eabc\u200f 😀 </seg01_clip_00> <eos>  e\u0301"
    task = task_of(q=f" {odd}\n", a0=f"{odd} \t")
    assert task.question.text == odd
    assert task.question.options[0] == odd


@pytest.mark.parametrize("q", [None, "", "  ", 3, ["What?"], "\ud83d"])
def test_a_question_needs_a_text(q: Any) -> None:
    with pytest.raises(InvalidRowError, match="expected a question text in 'q'"):
        task_of(q=q)


@pytest.mark.parametrize("qid", [None, True, 1.5, "", " ", [1], "\ud83d"])
def test_a_question_needs_an_id(qid: Any) -> None:
    with pytest.raises(
        InvalidRowError, match=r"questions\.json, row 7: expected .* 'qid'"
    ) as error:
        task_of(qid=qid)
    assert error.value.row == 7
    assert "skip_invalid" in error.value.mend


@pytest.mark.parametrize(
    "changes",
    [{"vid_name": None}, {"vid_name": "../../etc_seg01_clip_00"}, {"vid_name": 3},
     {"vid_name": ""}, {"occur_clip": "s05e02"}, {"episode_name": "a/b"}, {"episode_name": 3},
     {"bbox": [1]}],
)  # fmt: skip
def test_other_invalid_rows(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRowError, match="row 7: question 1: expected") as error:
        task_of(**changes)
    assert type(error.value) is InvalidRowError


def test_a_clip_of_another_video() -> None:
    with pytest.raises(ForeignClipError, match=r"'s05e03'.*'s05e02_seg02_clip_00'.*'s05e02'"):
        task_of(episode_name="s05e03")


@pytest.mark.parametrize("row", [None, 3, "text", [], [{"q": 1}]])
def test_a_row_is_an_object(row: Any) -> None:
    with pytest.raises(InvalidRowError, match="expected an object"):
        read_task(row, PLACE)
    assert clip_named_by(row) is None


@given(st.dictionaries(st.sampled_from([*MINIMAL, "answer", "ts", "bbox", "episode_name"]), JSON))
def test_any_row_is_a_task_or_a_named_error(changes: dict[str, Any]) -> None:
    try:
        options = task_of(**changes).question.options
    except InvalidRowError:
        return
    assert 2 <= len(options) <= 8


def test_duplicates_name_both_rows_and_compare_as_text() -> None:
    rows = [(1, MINIMAL), (2, {**MINIMAL, "qid": 2}), (3, {**MINIMAL, "qid": "1"})]
    with pytest.raises(DuplicateQidError, match=r"row 3: question 1: .* rows 1 and 3 share it"):
        read_tasks(FILE, rows, Rejects(skip_invalid=False))
    rejects = Rejects(skip_invalid=True)
    assert [number for number, _ in read_tasks(FILE, rows, rejects)] == [1, 2]
    assert [error.row for error in rejects.errors] == [3]


def test_an_id_of_a_skipped_row_is_free() -> None:
    rows = [(1, {**MINIMAL, "a1": ""}), (2, MINIMAL)]
    rejects = Rejects(skip_invalid=True)
    assert [number for number, _ in read_tasks(FILE, rows, rejects)] == [2]
    assert [type(error) for error in rejects.errors] == [MissingOptionError]
    assert rejects.errors[0].__traceback__ is None


def test_clip_named_by_a_row() -> None:
    assert clip_named_by(MINIMAL) == "s05e02_seg02_clip_00"
    assert clip_named_by({"occur_clip": "../x"}) is None
