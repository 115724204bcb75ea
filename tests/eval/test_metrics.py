from dataclasses import replace

import pytest

from eval.metrics.intervals import clustered_share
from eval.metrics.summary import accuracy_interval, mean_of_groups, summarize
from longvideo_env.records.trajectory import Trajectory, TurnRecord


def episode(qid, correct=True, status="answered", turns=("answer",), **fields):
    records = tuple(
        TurnRecord(
            i,
            action=None if kind == "bad" else kind,
            malformed="empty" * (kind == "bad") or None,
            request={"tool": "look"} if kind == "look" else None,
            moves=kind == "ground",
        )
        for i, kind in enumerate(turns, start=1)
    )
    return Trajectory(
        qid,
        "v",
        "p",
        0,
        0,
        status,
        5,
        records,
        (),
        correct=correct,
        reward=None if correct is None else float(correct),
        **fields,
    )


def test_failed_episodes_count_only_as_failed():
    runs = [episode(i, correct=i < 3) for i in range(4)]
    broken = episode(9, correct=None, status="failed", turns=("look",), error="down")
    summary = summarize([*runs, broken], 6)
    assert summary["n_questions"] == 6
    assert summary["n_finished"] == 5
    assert summary["n_failed"] == 1
    assert summary["n_answered"] == 4
    assert summary["accuracy"] == 0.75
    assert summary["mean_turns"] == 1.0
    assert summary["errors"] == {"down": 1}


def test_no_answer_in_time_is_wrong():
    summary = summarize([episode(1), episode(2, correct=False, status="out_of_turns")], 2)
    assert summary["accuracy"] == 0.5
    assert summary["n_answered"] == 1


def test_the_interval_is_clustered_by_video():
    runs = [replace(episode(i, correct=i % 3 == 0), video_id=f"v{i % 20}") for i in range(200)]
    summary = summarize(runs, 200)
    hits, videos = [i % 3 == 0 for i in range(200)], [i % 20 for i in range(200)]
    assert summary["accuracy_ci95"] == list(clustered_share(hits, videos))
    assert accuracy_interval(summary) == summary["accuracy_ci95"]
    assert summary["n_videos"] == 20


def test_without_gold_answers_accuracy_is_absent_not_zero():
    summary = summarize([episode(1, correct=None)], 1)
    for name in ("accuracy", "accuracy_ci95", "grounding_accuracy", "mean_reward"):
        assert summary[name] is None
    assert summary["n_answered"] == 1


def test_turns_tools_and_mistakes():
    runs = [
        episode(1, turns=("look", "bad", "answer"), grounded=True, grounded_first=False),
        episode(2, turns=("answer",), grounded=False, grounded_first=False),
    ]
    summary = summarize(runs, 2)
    assert summary["turn_histogram"] == {"1": 1, "3": 1}
    assert summary["malformed_rate"] == 0.25
    assert summary["malformed_kinds"] == {"empty": 1}
    assert summary["tool_calls"] == {"opening": 0, "look": 1}
    assert summary["grounding_accuracy"] == 0.5
    assert summary["grounding_accuracy_first"] == 0.0


def test_shows_are_told_apart():
    runs = [
        episode(1, show="mini:say_here"),
        episode(2, correct=False, show="mini:look_here", turns=("look", "answer")),
        episode(3, show="mini:look_here", turns=("ground", "bad", "answer")),
        episode(4),
        episode(5, correct=None, show="mini:say_here", status="failed"),
    ]
    by_show = summarize(runs, 5)["by_show"]
    assert list(by_show) == ["mini:look_here", "mini:say_here"]
    assert by_show["mini:look_here"] == {
        "n": 2,
        "accuracy": 0.5,
        "accuracy_ci95": None,  # one video
        "called_grounding": 0.5,
        "looked": 0.5,
        "mean_turns": 2.5,
    }
    assert by_show["mini:say_here"]["n"] == 1


def test_behaviour_by_whether_the_first_clip_was_right():
    runs = [
        episode(1, turns=("ground", "look", "answer"), grounded_first=False),
        episode(2, turns=("answer",), grounded_first=False),
        episode(3, turns=("answer",), grounded_first=True),
        episode(4, turns=("look", "look", "answer")),
        episode(5, correct=None, status="failed", turns=("ground",), grounded_first=False),
    ]
    assert summarize(runs, 5)["behaviour"] == {
        "n_first_wrong": 2,
        "called_grounding_first_wrong": 0.5,
        "n_first_right": 1,
        "called_grounding_first_right": 0.0,
        "looked": 0.5,
        "mean_turns": 2.0,
        "mean_tool_calls": 0.75,  # the helper makes no request for grounding
    }


def test_behaviour_is_absent_where_there_is_nothing_to_count():
    assert summarize([], 1)["behaviour"] == {
        "n_first_wrong": 0,
        "called_grounding_first_wrong": None,
        "n_first_right": 0,
        "called_grounding_first_right": None,
        "looked": None,
        "mean_turns": None,
        "mean_tool_calls": None,
    }


def test_nothing_finished():
    summary = summarize([], 3)
    assert summary["accuracy"] is None
    assert summary["n_questions"] == 3


def test_one_video_has_no_interval_however_many_samples():
    samples = [replace(episode(i), sample=k) for i in range(4) for k in range(64)]
    summary = summarize(samples, 4)
    assert summary["accuracy_ci95"] is None
    assert summary["samples"]["pass_ci95"] is None


def test_the_too_narrow_intervals_of_an_earlier_release_are_not_shown():
    assert accuracy_interval({"accuracy_ci95": [0.1, 0.2]}) is None
    older = {"accuracy_ci95": [0.1, 0.2], "accuracy_ci95_clustered": [0, 1], "n_videos": 2}
    assert accuracy_interval(older) is None


def test_the_mean_of_groups_weighs_them_alike():
    runs = [
        replace(episode(i, correct=i < 6), video_id=f"v{i % 3}", show="a" if i < 9 else "b")
        for i in range(12)
    ]
    summary = summarize(runs, 12)
    assert summary["accuracy"] == 0.5
    mean = summary["mean_of_shows"]
    assert mean["accuracy"] == pytest.approx((6 / 9 + 0) / 2)
    assert mean["n_groups"] == 2
    low, high = mean["accuracy_ci95"]
    assert 0 <= low < mean["accuracy"] < high <= 1
    assert mean_of_groups([]) == {"n_groups": 0, "accuracy": None, "accuracy_ci95": None}
