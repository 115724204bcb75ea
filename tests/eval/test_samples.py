from itertools import combinations

import pytest

from eval.metrics.samples import sample_scores
from eval.metrics.summary import summarize
from longvideo_env.records.trajectory import Trajectory, TurnRecord


def play(qid, sample, choice, correct, **fields):
    fields = {"turns": (), "status": "answered", **fields}
    return Trajectory(
        qid=qid, video_id=f"v{qid}", policy="p", sample=sample, seed=0, n_options=5,
        segments=(), choice=choice, correct=correct, **fields,
    )  # fmt: skip


def played(*questions):
    """Each question is the list of its samples' choices. 0 is right."""
    return [
        play(qid, sample, choice, choice == 0)
        for qid, choices in enumerate(questions)
        for sample, choice in enumerate(choices)
    ]


def test_avg_pass_all_majority_and_same():
    scores = sample_scores(played([0, 0, 2], [1, 0, 1], [2, 1, None], [0, 0, 0]))
    assert (scores["n"], scores["n_questions"], scores["n_incomplete"]) == (3, 4, 0)
    assert scores["avg"] == pytest.approx((2 / 3 + 1 / 3 + 0 + 1) / 4)
    assert scores["pass"] == 3 / 4
    assert scores["all"] == 1 / 4
    assert scores["majority"] == 2 / 4
    assert scores["same"] == 1 / 4
    assert list(scores["by_k"]) == ["1", "2", "3"]
    low, high = scores["pass_ci95"]
    assert 0 <= low < 3 / 4 < high <= 1


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples(k):
    samples = [0, 1, 0, 2, 1]
    drawn = list(combinations([choice == 0 for choice in samples], k))
    found = sample_scores(played(samples))["by_k"][str(k)]
    assert found["pass"] == pytest.approx(sum(map(any, drawn)) / len(drawn))
    assert found["all"] == pytest.approx(sum(map(all, drawn)) / len(drawn))


def test_missing_samples_bias_nothing():
    scores = sample_scores(played([0, 1, 1, 1], [1, 0]))
    assert (scores["n"], scores["n_incomplete"]) == (4, 1)
    assert scores["by_k"]["1"]["pass"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert scores["by_k"]["2"]["pass"] == pytest.approx((1 / 2 + 1) / 2)
    assert scores["by_k"]["4"] == {
        "n_questions": 1, "pass": 1.0, "pass_ci95": None, "all": 0.0, "all_ci95": None,
    }  # fmt: skip
    assert scores["pass"] == 1.0


def test_a_tie_goes_to_the_first_and_no_answer_has_no_vote():
    assert sample_scores([play(1, 1, 3, True), play(1, 0, 2, False)])["majority"] == 0
    assert sample_scores([play(1, 0, None, False), play(1, 1, 3, True)])["majority"] == 1
    assert sample_scores(played([None, None]))["same"] == 0, "no answer is not the same answer"


def test_what_is_undefined_is_none():
    scores = sample_scores([])
    for name in ("avg", "pass", "all", "majority", "same", "pass_ci95"):
        assert scores[name] is None
    assert sample_scores(played([0], [1]))["same"] is None, "one sample has nothing to agree with"


def test_the_summary_says_what_was_used_and_what_a_right_answer_cost():
    details = {"prompt_tokens": 100, "completion_tokens": 5, "requests": 1, "cost_usd": 0.25}
    turn = TurnRecord(
        1, "look",
        request={"tool": "look"},
        result={"details": {**details, "n_frames": 7, "shortlisted": {"shown": 1, "of": 2}}},
        usage={"model": "m", **details},
    )  # fmt: skip
    first = TurnRecord(0, request={"tool": "ground"}, result={"details": {}}, moves=True)
    runs = [play(1, 0, 1, True, turns=(turn,), first=first), play(2, 0, 1, False)]
    summary = summarize(runs, 2)
    assert summary["usage"]["master"]["prompt_tokens"] == 100
    assert summary["usage"]["total"]["requests"] == 2
    assert summary["cost_usd"] == summary["cost_per_correct_usd"] == 0.5
    assert summary["tokens_per_correct"] == 210
    assert summary["frames_sent"] == 7
    assert summary["shortlisted"] == {"calls": 1, "of": 1}
    assert summarize(runs[1:], 1)["cost_per_correct_usd"] is None


def test_equal_tool_calls_can_be_counted_once():
    used = {"prompt_tokens": 100, "completion_tokens": 5, "requests": 1, "cost_usd": 0.25}
    turn = TurnRecord(1, "look", request={"tool": "look"}, result={"details": used}, usage={**used})
    samples = [play(1, i, 1, True, turns=(turn,)) for i in range(4)]
    summary = summarize(samples, 1)
    assert summary["cost_usd"] == 4 * 0.5
    assert summary["cost_once_usd"] == 4 * 0.25 + 0.25
    other = play(2, 0, 1, True, turns=(turn,))
    assert summarize([*samples, other], 2)["cost_once_usd"] == 5 * 0.25 + 2 * 0.25
