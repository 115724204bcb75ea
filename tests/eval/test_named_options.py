"""An accuracy that separates "cannot read" from "cannot write tags"."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.named_options import merge_named, named_accuracy, named_lines, named_option
from longvideo_env.records.trajectory import Segment, Trajectory, TurnRecord
from longvideo_env.schema import Gold, Question, Task

DAYS = ("wednesday", "easter", "sunday", "monday")


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("The storm that kim talks about is on easter.", DAYS, 1),
        ("It is on  EASTER, easter I say.", DAYS, 1),
        ("A2.", DAYS, 2),
        ("Option a2: sunday", DAYS, 2),
        ("a2 or easter", DAYS, None),
        ("A0: wednesday\nA1: easter\nA2: sunday\nA3: monday", DAYS, None),
        ("easterly winds, a22, a9", DAYS, None),
        ("", DAYS, None),
        ("dark red", ("red", "dark red"), 1),
        ("red, not dark red", ("red", "dark red"), None),
        ("he said (so)", ("(so)", "so"), 0),
        ("anything", (" ", "b"), None),
    ],
)
def test_one_option_is_named_or_none(
    text: str, options: tuple[str, ...], named: int | None
) -> None:
    assert named_option(text, options) == named


@given(st.text(max_size=60), st.lists(st.text(max_size=8), min_size=2, max_size=5))
def test_no_text_breaks_it(text: str, options: list[str]) -> None:
    named = named_option(text, options)
    assert named is None or 0 <= named < len(options)


def episode(qid: str, *replies: str, order: tuple[int, ...] | None = None) -> Trajectory:
    shown = DAYS if order is None else tuple(DAYS[i] for i in order)
    return Trajectory(
        qid=qid, video_id="v", policy="hf:x", sample=0, seed=0, status="out_of_turns", n_options=4,
        turns=tuple(TurnRecord(i, malformed="no_action") for i in range(1, len(replies) + 1)),
        segments=tuple(Segment("assistant", r, True, i) for i, r in enumerate(replies, 1)),
        options=shown, option_order=order, correct=False,
    )  # fmt: skip


def test_what_is_named_last_counts_beside_the_accuracy() -> None:
    task = Task(Question("q", "when?", DAYS, "v"), Gold(answer=1, twins=(3,)))
    answered = replace(episode("q", "<answer>a1</answer>"), choice=1, correct=True)
    answered = replace(answered, turns=(TurnRecord(1, "answer", "a1"),))
    episodes = [
        answered,
        episode("q", "on easter", "who knows"),
        episode("q", "on easter", "no, sunday"),
        episode("q", "a0", order=(1, 0, 2, 3)),
        episode("q", "monday"),
        episode("q", "easter or monday"),
        replace(episode("q", "on easter"), status="failed"),
        replace(episode("q", "on easter"), correct=None),
    ]
    found = named_accuracy(lambda qid: task, episodes)
    assert found is not None
    assert (found["n_unanswered"], found["n_named"], found["n_right"]) == (5, 4, 3)
    assert (found["n_scored"], found["accuracy"]) == (6, 4 / 6)
    (line,) = named_lines({"named_options": found})
    assert "3 the right one" in line

    halves = [episodes[:1], episodes[1:]]
    summaries = [
        {"named_options": named_accuracy(lambda qid: task, half), "accuracy": 1.0, "n_scored": 1}
        for half in halves
    ]
    assert summaries[0]["named_options"] is None
    assert merge_named(summaries) == found
    assert named_lines(summaries[0]) == named_lines({}) == []
    assert merge_named(summaries[:1]) is None
