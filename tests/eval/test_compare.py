import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval.compare import main
from eval.run_policy import main as run_policy

ROOT = Path(__file__).parents[2]
MINI = ("--dataset", "mini:videos=10", "--split", "test")


def play(out, policy, *args):
    assert run_policy(["--policy", policy, "--out", str(out), *MINI, *args]) == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    for policy in ("random", "teacher:mini:0:0"):
        play(out, policy)
    return out / "random", out / "teacher-mini-0-0"


def test_the_better_run_is_told_by_kind_and_behaviour(runs, tmp_path, capsys):
    a, b = runs
    file = tmp_path / "new" / "compare.json"
    assert main([str(a), str(b / "episodes.jsonl"), "--json", str(file)]) == 0
    out, err = capsys.readouterr()
    for part in ("A: random", "B: teacher:mini:0:0", "sign-flip", "mini:look_here", "left out: 0"):
        assert part in out
    assert "warning" not in err
    numbers = json.loads(file.read_text(encoding="utf-8"))
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    for side, summary in zip(("a", "b"), summaries, strict=True):
        for key in ("accuracy", "accuracy_ci95", "behaviour", "by_show"):
            assert numbers[side][key] == summary[key]
    assert numbers["difference"] > 0.3
    assert numbers["p"] < 0.01
    low, high = numbers["difference_ci95"]
    assert 0 < low < numbers["difference"] < high <= 1
    low, high = summaries[1]["accuracy_ci95"]
    assert f"{low:.3f}-{high:.3f}" in out, "one and the same interval everywhere"
    assert numbers["b"]["by_show"]["mini:look_here"]["looked"] == 1.0
    assert numbers["b"]["by_show"]["mini:say_here"]["looked"] == 0.0
    assert sum(numbers[k] for k in ("both_right", "a_only", "b_only", "neither")) == numbers["n"]


def test_runs_of_one_policy_are_called_by_their_folders(runs, tmp_path, capsys):
    play(tmp_path, "random", "--window", "2")
    assert main([str(runs[0]), str(tmp_path / "random")]) == 0
    assert f"B: {tmp_path}"[:20] in capsys.readouterr().out
    assert main([str(runs[0]), str(tmp_path / "random"), "--names", "one", "wide [2]"]) == 0
    assert "B: wide [2]" in capsys.readouterr().out


def test_other_questions_under_the_same_ids_are_refused(runs, tmp_path, capsys):
    play(tmp_path, "random", "--dataset", "mini:videos=10,difficulty=0.9", "--limit", "8")
    assert main([str(runs[0]), str(tmp_path / "random")]) == 1
    err = capsys.readouterr().err
    assert "differ in dataset" in err
    assert "8 of 8 have another text or other options" in err
    assert "mini_s02e0000_q" in err
    assert "and 3 more" in err
    (tmp_path / "random" / "questions.json").unlink()  # a run of an older release
    assert main([str(runs[0]), str(tmp_path / "random")]) == 0
    assert "left out: 32" in capsys.readouterr().out


def test_bad_input_is_one_clear_line_and_exit_1(runs, tmp_path, capsys):
    play(tmp_path, "random", "--seed", "3")
    for other in (tmp_path / "random", tmp_path):
        capsys.readouterr()
        assert main([str(runs[0]), str(other)]) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("longvideo-env compare: expected")
        assert "Fix:" in line


@pytest.mark.slow
def test_started_as_a_script_and_help_reads_well():
    text = subprocess.run(
        [sys.executable, str(ROOT / "eval/compare.py"), "--help"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for part in ("RUN_A", "--names", "--json", "sign-flip", "Exit codes"):
        assert part in text


def test_what_is_not_significant_says_what_it_would_take(runs, tmp_path, capsys):
    play(tmp_path, "scripted:answer")
    assert main([str(runs[0]), str(tmp_path / "scripted-answer")]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("not significant"))
    assert "10 such videos find a difference of" in line
    assert "questions)" in line


def test_one_video_has_no_interval_and_no_p(tmp_path, capsys):
    for policy in ("random", "teacher:mini:0:0"):
        one_video = "mini_s02e0000_q0-mini_s02e0000_q2"
        play(tmp_path, policy, "--questions", one_video, "--samples", "8")
    capsys.readouterr()
    assert main([str(tmp_path / "random"), str(tmp_path / "teacher-mini-0-0")]) == 0
    out = capsys.readouterr().out
    assert "no interval and no p" in out
    assert "one video: no interval" in out
