import numpy as np
import pytest

from eval.metrics.clusters import gather
from eval.metrics.paired import clustered_difference
from eval.metrics.sample_size import SampleSize, plan_of
from eval.power import main
from eval.run_policy import main as run_policy

GIVEN = ("--per-video", "12", "--disagreement", "0.3", "--correlation", "0.05")


def test_the_plan_is_what_the_test_really_finds():
    """12 questions per video, 30 % disagreement, a difference of 0.1, a correlation of 0.05."""
    rng, found = np.random.default_rng(0), 0
    videos = np.repeat(np.arange(30), 12)
    scale = 1 / 0.05 - 1
    for _ in range(400):
        shares = rng.dirichlet([0.2 * scale, 0.1 * scale, 0.7 * scale], 30).cumsum(axis=1)[videos]
        drawn = rng.random(len(videos))
        values = 1.0 * (drawn < shares[:, 0]) - (drawn >= shares[:, 0]) * (drawn < shares[:, 1])
        found += clustered_difference(values.tolist(), videos.tolist()).p <= 0.05
    plan = SampleSize(variance=0.3 - 0.1**2, correlation=0.05, per_video=12)
    assert plan.power(0.1, 30) == pytest.approx(found / 400, abs=0.08)


def test_power_detectable_and_needed_are_one_thing():
    plan = SampleSize(0.29, 0.05, 12, unevenness=1.4)
    difference = plan.detectable(50)
    assert plan.power(difference, 50) == pytest.approx(0.8, abs=1e-6)
    assert plan.videos_needed(difference * 1.0001) == 50
    assert plan.power(0.03, 100) > plan.power(0.03, 50)
    assert SampleSize(0.29, 0.2, 12).videos_needed(0.03) > plan.videos_needed(0.03)


def test_too_few_videos_find_nothing():
    plan = SampleSize(0.3, 0.0, 1000)
    assert (plan.power(1.0, 5), plan.detectable(5)) == (0.0, None)
    assert plan.videos_needed(1.0) == 6
    assert plan.videos_needed(1e-9) is None


def test_a_pilot_gives_back_what_it_was_made_of():
    rng = np.random.default_rng(1)
    videos = np.repeat(np.arange(2000), 8)
    lean = rng.dirichlet([0.2 * 9, 0.1 * 9, 0.7 * 9], 2000).cumsum(axis=1)[videos]
    drawn = rng.random(len(videos))
    values = 1.0 * (drawn < lean[:, 0]) - (drawn >= lean[:, 0]) * (drawn < lean[:, 1])
    plan = plan_of(gather(values.tolist(), videos.tolist()))
    assert plan.variance == pytest.approx(0.3 - 0.01, abs=0.02)
    assert plan.correlation == pytest.approx(0.1, abs=0.02)
    assert (plan.per_video, plan.unevenness) == (8, pytest.approx(1.0))
    assert plan_of(gather([0.0] * 8, list(range(8)))) is None


def test_the_command_says_what_it_takes(capsys):
    assert main(["--difference", "0.03", "--videos", "50", *GIVEN]) == 0
    out = capsys.readouterr().out
    for part in ("50 videos (600 questions)", "with power 0.18", "takes 339 videos"):
        assert part in out
    assert main(["--videos", "4", *GIVEN]) == 0
    assert "cannot show a difference" in capsys.readouterr().out


def test_a_pilot_stands_in_for_what_is_not_given(tmp_path, capsys):
    mini = ["--dataset", "mini:videos=10", "--split", "test", "--out", str(tmp_path)]
    for policy in ("random", "scripted:answer"):
        assert run_policy(["--policy", policy, *mini]) == 0
    pilot = ["--pilot", str(tmp_path / "random"), str(tmp_path / "scripted-answer")]
    capsys.readouterr()
    assert main(["--difference", "0.05", *pilot]) == 0
    assert "questions per video 4 (" in capsys.readouterr().out
    assert main(["--difference", "0.05", *pilot, "--correlation", "0.5"]) == 0
    assert "correlation within a video 0.500" in capsys.readouterr().out
    assert main(["--difference", "0.05", "--pilot", pilot[1], pilot[1]]) == 1
    assert "never disagree" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "problem", "code"),
    [
        (["--difference", "0.03"], "expected --pilot RUN RUN, or else --correlation", 2),
        ([*GIVEN], "give --difference D, --videos N, or both", 2),
        (["--difference", "0.5", *GIVEN], "cannot differ by more than that", 2),
        (["--difference", "0", *GIVEN], "--difference must be above 0", 2),
        (["--videos", "9", *GIVEN, "--correlation", "2"], "--correlation must be from 0 to 1", 2),
        (["--videos", "9", "--pilot", "nowhere", "nowhere"], "nowhere", 1),
    ],
)
def test_bad_input_is_one_clear_line(capsys, args, problem, code):
    assert main(args) == code
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("longvideo-env power: ")
    assert problem in error
    assert "Traceback" not in error
