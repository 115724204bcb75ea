import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agents.policies.build import POLICY_SPECS
from eval.run_policy import main
from longvideo_env import load_dataset, read_trajectories

ROOT = Path(__file__).parents[2]


def run(out, *args, policy="scripted:ground-look-answer"):
    return main(["--policy", policy, "--out", str(out), "--dataset", "embedded", *args])


def summary(out, name="scripted-ground-look-answer"):
    return json.loads((out / name / "summary.json").read_text(encoding="utf-8"))


KEYS = {
    "n_questions", "n_answered", "n_failed", "accuracy", "accuracy_ci95", "grounding_accuracy",
    "mean_turns", "turn_histogram", "tool_calls", "malformed_rate", "wall_s", "behaviour",
}  # fmt: skip


def test_the_embedded_split(tmp_path, capsys):
    assert run(tmp_path, "--policy", "scripted:answer", policy="random") == 0
    n = len(load_dataset("embedded", "val"))
    for name in ("random", "scripted-answer"):
        assert summary(tmp_path, name).keys() >= KEYS
        assert summary(tmp_path, name)["n_answered"] == n
    out = capsys.readouterr().out
    assert "scripted:answer" in out
    assert "accuracy" in out


def test_a_seed_draws_a_fresh_mini_world(tmp_path):
    args = ("--dataset", "mini:videos=2", "--split", "test", "--seed", "3")
    assert run(tmp_path, *args) == 0
    folder = tmp_path / "scripted-ground-look-answer"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["dataset"] == summary(tmp_path)["dataset"] == "mini:videos=2,seed=3"
    played = {t.qid for t in read_trajectories(folder / "episodes.jsonl")}
    assert played == {task.qid for task in load_dataset("mini:videos=2,seed=3", "test").tasks}
    assert not played & {task.qid for task in load_dataset("mini:videos=2", "test").tasks}


def test_a_second_run_resumes_and_a_limit_can_grow(tmp_path):
    assert run(tmp_path, "--limit", "4") == 0
    path = tmp_path / "scripted-ground-look-answer" / "episodes.jsonl"
    first = path.read_text().splitlines()
    assert len(first) == 4
    assert run(tmp_path) == 0
    lines = path.read_text().splitlines()
    assert set(first) < set(lines)
    assert len(lines) == summary(tmp_path)["n_questions"] == len(load_dataset("embedded", "val"))
    assert run(tmp_path) == 0
    assert path.read_text().splitlines() == lines


def test_two_runs_are_equal_timings_aside(tmp_path):
    for name in ("a", "b"):
        run(tmp_path / name, "--grounding", "random", "--shuffle-options", policy="random")
    runs = [
        [
            t.to_json(timings=False)
            for t in read_trajectories(tmp_path / n / "random/episodes.jsonl")
        ]
        for n in ("a", "b")
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("args", "problem", "code"),
    [
        (["--policy", "nobody"], "unknown policy", 2),
        (["--policy", "random", "--dataset", "nowhere"], "nowhere", 1),
        (["--policy", "random", "--split", "tset"], "tset", 1),
        (["--policy", "random", "--grounding", "gps"], "unknown grounding agent", 2),
        (["--policy", "random", "--window", "9"], "window", 2),
        (["--policy", "random", "--reward", "rich"], "unknown reward preset", 2),
        (["--policy", "random", "--limit", "0"], "--limit", 2),
        (["--policy", "random", "--concurrency", "0"], "--concurrency", 2),
        (["--policy", "random", "--temperature", "-1"], "temperature", 2),
        ([], "--policy", 2),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, capsys, args, problem, code):
    assert main([*args, "--out", str(tmp_path)]) == code
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("longvideo-env evaluate: ")
    assert problem in error


def test_unknown_flags_exit_2(tmp_path):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "--maxturns", "3")
    assert stop.value.code == 2


def test_another_configuration_in_the_same_folder_is_refused(tmp_path, capsys):
    assert run(tmp_path) == 0
    assert run(tmp_path, "--window", "2") == 1
    assert "window=1, not 2" in capsys.readouterr().err
    assert run(tmp_path, "--window", "2", "--overwrite") == 0


def test_failures_exit_3_and_are_played_again(tmp_path, monkeypatch):
    from agents.vision.captions import CaptionVision
    from longvideo_env.errors import ToolError

    async def down(self, request, /):
        raise ToolError("the endpoint is down")

    with monkeypatch.context() as patch:
        patch.setattr(CaptionVision, "look", down)
        assert run(tmp_path) == 3
    assert summary(tmp_path)["n_failed"] == summary(tmp_path)["n_questions"]
    assert summary(tmp_path)["accuracy"] is None
    assert run(tmp_path) == 0
    assert summary(tmp_path)["n_failed"] == 0


def test_yaml_gives_defaults_and_flags_override(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text(f"policy: random\nout: {tmp_path / 'x'}\nmax_turns: 3\nlimit: 2\n")
    assert main(["--config", str(config), "--max_turns", "1"]) == 0
    assert summary(tmp_path / "x", "random")["turn_histogram"] == {"1": 2}
    config.write_text("max_turn: 3\n")
    with pytest.raises(SystemExit, match="2"):
        main(["--config", str(config)])
    message = "unknown option --max-turn in the YAML file. Did you mean --max-turns?"
    assert message in capsys.readouterr().err


def test_invalid_rows_stop_the_run_or_are_left_out(tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(ROOT / "longvideo_env/datasets/embedded", folder)
    path = folder / "LongTVQA_plus_val.json"
    rows = json.loads(path.read_text())
    rows[1]["answer"] = "a9"
    path.write_text(json.dumps(rows))
    args = ("--dataset", str(folder))
    assert run(tmp_path / "out", *args) == 1
    assert "row 2" in capsys.readouterr().err
    assert run(tmp_path / "out", *args, "--skip-invalid") == 0
    assert "left out" in capsys.readouterr().err
    assert summary(tmp_path / "out")["n_questions"] == len(rows) - 1
    assert summary(tmp_path / "out")["n_skipped_rows"] == 1


def test_raw_questions_without_answers_have_no_accuracy(tmp_path, shared_data):
    args = ("--dataset", str(shared_data / "tvqa_raw"), "--split", "test", "--limit", "300",
            "--vision", "none")  # fmt: skip
    assert run(tmp_path, *args) == 0
    result = summary(tmp_path)
    assert result["n_answered"] == 300
    assert result["accuracy"] is None
    assert result["accuracy_ci95"] is None


@pytest.mark.slow
def test_all_real_questions_none_lost(tmp_path, shared_data):
    args = ("--dataset", str(shared_data / "tvqa_plus_dev"), "--policy", "random")
    assert run(tmp_path, *args) == 0
    scripted, random = summary(tmp_path), summary(tmp_path, "random")
    assert scripted["n_finished"] == random["n_finished"] == 595
    assert scripted["n_failed"] == 0
    assert scripted["grounding_accuracy_first"] > 0.35
    assert 0.15 < random["accuracy"] < 0.25
    assert scripted["accuracy"] > random["accuracy"]


def test_oracle_runs_are_marked(tmp_path):
    assert run(tmp_path, "--grounding", "oracle") == 0
    assert summary(tmp_path)["oracle"] is True
    assert summary(tmp_path)["grounding_accuracy_first"] == 1.0


@pytest.mark.slow
def test_started_as_a_script_and_help_reads_well(tmp_path):
    script = [sys.executable, str(ROOT / "eval/run_policy.py")]
    text = subprocess.run(
        [*script, "--help-all"], capture_output=True, text=True, check=True
    ).stdout
    flat = "".join(text.split())  # for any width of the terminal
    for part in (
        "--max-turns",
        "--grounding",
        "Exitcodes",
        "(default:thegame's,5in",
        *POLICY_SPECS,
    ):
        assert part in flat
    done = subprocess.run(
        [*script, "--policy", "random", "--out", str(tmp_path), "--limit", "3"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_interrupted_in_the_middle_keeps_what_was_finished(tmp_path, monkeypatch, capsys):
    from agents.policies.build import RandomPolicy

    played = []
    act = RandomPolicy.act

    async def stop_after_five(self, context, /):
        played.append(context.question.qid)
        if len(set(played)) > 5:
            raise KeyboardInterrupt
        return await act(self, context)

    with monkeypatch.context() as patch:
        patch.setattr(RandomPolicy, "act", stop_after_five)
        assert run(tmp_path, "--concurrency", "1", policy="random") == 130
    assert "resumes" in capsys.readouterr().err
    kept = list(read_trajectories(tmp_path / "random/episodes.jsonl"))
    assert len(kept) in (4, 5)  # at most the episode in flight is lost
    assert run(tmp_path, policy="random") == 0
    assert summary(tmp_path, "random")["n_finished"] == summary(tmp_path, "random")["n_questions"]
