from eval.metrics.samples import sample_scores
from eval.metrics.summary import summarize
from longvideo_env.records.trajectory import Trajectory, TurnRecord


def play(qid, sample, choice, correct, **fields):
    fields = {"turns": (), "status": "answered", **fields}
    return Trajectory(
        qid=qid, video_id=f"v{qid}", policy="p", sample=sample, seed=0, n_options=5,
        segments=(), choice=choice, correct=correct, **fields,
    )  # fmt: skip


def test_avg_pass_and_majority():
    scores = sample_scores(
        [
            play(1, 0, 2, True), play(1, 1, 2, True), play(1, 2, 0, False),
            play(2, 0, 1, False), play(2, 1, 3, True), play(2, 2, 1, False),
            play(3, 0, 0, False), play(3, 1, 1, False), play(3, 2, None, False),
        ]
    )  # fmt: skip
    assert scores["n"] == 3
    assert scores["avg"] == 1 / 3
    assert scores["pass"] == 2 / 3
    assert scores["majority"] == 1 / 3
    assert scores["n_incomplete"] == 0


def test_a_tie_goes_to_the_first_and_no_answer_has_no_vote():
    assert sample_scores([play(1, 1, 3, True), play(1, 0, 2, False)])["majority"] == 0
    assert sample_scores([play(1, 0, None, False), play(1, 1, 3, True)])["majority"] == 1
    assert sample_scores([])["avg"] is None


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
