import pytest

from eval.metrics.pairs import compare, count, differences, match, n_left_out, read_run
from eval.runs.store import RunStore
from longvideo_env.errors import SpecError
from longvideo_env.records.trajectory import Trajectory, TurnRecord


def episode(qid, correct=True, show=None, sample=0, turns=(), video="v"):
    status = "failed" if correct is None else "answered"
    records = tuple(TurnRecord(i, kind) for i, kind in enumerate(turns, start=1))
    return Trajectory(
        qid, str(video), "p", sample, 0, status, 5, records, (), show=show, correct=correct
    )


def saved(folder, *episodes, **config):
    with RunStore(folder, {"policy": "p", "dataset": "d", "split": "s", "seed": 0} | config) as s:
        for item in episodes:
            s.add(item)
    return read_run(folder)


def test_only_what_both_runs_scored_is_compared(tmp_path):
    a = saved(tmp_path / "a", episode(1), episode(2), episode(3), episode(4, sample=1))
    b = saved(tmp_path / "b", episode(4), episode(3, None), episode("2", False), episode(1))
    pairs = match(a, b)
    assert [(x.qid, y.qid) for x, y in pairs] == [(1, 1), (2, "2")]
    assert n_left_out(a, b, pairs) == 3
    assert read_run(tmp_path / "a" / "episodes.jsonl") == a


def test_nothing_in_common_is_refused(tmp_path):
    a = saved(tmp_path / "a", episode(1), episode(2, None))
    b = saved(tmp_path / "b", episode(2), episode(3))
    with pytest.raises(SpecError, match="none in common"):
        match(a, b)


@pytest.mark.parametrize("missing", ["episodes.jsonl", "config.json"])
def test_what_is_no_run_is_refused(tmp_path, missing):
    saved(tmp_path, episode(1))
    (tmp_path / missing).unlink()
    with pytest.raises(SpecError, match=missing):
        read_run(tmp_path)


def test_a_torn_configuration_is_refused(tmp_path):
    saved(tmp_path, episode(1))
    (tmp_path / "config.json").write_text('{"policy": ')
    with pytest.raises(SpecError, match="not JSON"):
        read_run(tmp_path)


def test_configurations_may_differ_in_what_is_compared(tmp_path):
    a = saved(tmp_path / "a", policy="x", window=1)
    b = saved(tmp_path / "b", policy="y", window=2, seed=3, dataset="mini")
    assert differences(a, b) == {"dataset": ("d", "mini"), "seed": (0, 3)}


def test_one_video_is_one_observation():
    hits = [(True, True)] * 4 + [(True, False)] * 1 + [(False, True)] * 7 + [(False, False)] * 8
    counts = count([(episode(i, a), episode(i, b)) for i, (a, b) in enumerate(hits)])
    assert counts["difference"] == pytest.approx(0.3)
    assert [counts[k] for k in ("both_right", "a_only", "b_only", "neither")] == [4, 1, 7, 8]
    assert (counts["n"], counts["n_questions"], counts["n_videos"]) == (20, 20, 1)
    for name in ("difference_ci95", "p", "method", "detectable"):
        assert counts[name] is None


def test_samples_of_one_question_are_no_new_questions():
    def pairs(samples):
        return [
            (episode(v, v % 3 == 0, sample=i, video=f"v{v}"), episode(v, True, video=f"v{v}"))
            for v in range(12)
            for i in range(samples)
        ]

    one, many = count(pairs(1)), count(pairs(64))
    assert many["n"] == 64 * one["n"]
    assert many["n_questions"] == one["n_questions"]
    for name in ("p", "detectable"):
        assert many[name] == pytest.approx(one[name])
    assert many["difference_ci95"] == pytest.approx(one["difference_ci95"])


def test_runs_that_never_disagree_do_not_differ():
    counts = count([(episode(i, True, video=i), episode(i, True, video=i)) for i in range(8)])
    assert (counts["p"], counts["difference"]) == (1.0, 0.0)
    low, high = counts["difference_ci95"]
    assert -1 < low == -high < 0, "few questions without a difference do not rule one out"
    assert counts["videos_needed"] is None


def test_shows_and_behaviour_are_those_of_the_pairs():
    pairs = [
        (episode(1, True, "x"), episode(1, False, "x", turns=("look",))),
        (episode(2, True, "y"), episode(2, True, "y")),
    ]
    numbers = compare(pairs)
    assert (numbers["a"]["accuracy"], numbers["b"]["accuracy"]) == (1.0, 0.5)
    assert numbers["b"]["by_show"]["x"]["looked"] == 1.0
    assert numbers["b"]["behaviour"]["looked"] == 0.5
    assert all(counts["p_holm"] is None for counts in numbers["by_show"].values()), "one video"
    assert {show: counts["a_only"] for show, counts in numbers["by_show"].items()} == {
        "x": 1,
        "y": 0,
    }
