"""The output of a training before and during its start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longvideo_env.records.trajectory import Segment, Trajectory, TurnRecord
from train.options.grpo_options import GRPO, GrpoArguments, parse
from train.options.launcher import is_loud
from train.options.sft_options import SFT, SftArguments
from train.options.start import Script, check_start, empty_output, start_parser
from train.rollouts.health import LOGP_GAP, MOST_GAP, Health, sample_reply, warning

ROOT = Path(__file__).parents[2]


def refuse(argv: list[str]) -> None:
    check_start(argv, GRPO)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dataset", "nowhere"], "nowhere"),
        (["--model_name_or_path", "./nowhere"], "there is no model in ./nowhere"),
        (["--max_turns", "0"], "max_turns must be at least 1"),
        (["--learning_rate", "fast"], "--learning-rate: expected a number, got 'fast'"),
        (["--loss_type", "gpro"], "--loss-type: expected one of grpo, dr_grpo, dapo, bnpo"),
        (["--max_steps", "1.5"], "--max-steps: expected a whole number, got '1.5'"),
        (["--save_strategy", "weekly"], "expected one of no, steps, epoch, best, got 'weekly'"),
        (["--lr_scheduler_type", "flat"], "--lr-scheduler-type: expected one of linear, cosine"),
        (["--learning_rat", "1"], "unknown option --learning-rat. Did you mean --learning-rate?"),
    ],
)
def test_what_cannot_work_is_refused_early(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "1" if "nowhere" in argv[1] else "2"
    with pytest.raises(SystemExit, match=code):
        refuse(argv)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_holds_a_run_is_not_trained_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "config.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    argv = ["--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit, match="1"):
        refuse(argv)
    assert "holds a run" in capsys.readouterr().err
    refuse([*argv, "--resume_from_checkpoint", "true"])
    assert (tmp_path / "metrics.jsonl").exists()
    refuse([*argv, "--overwrite", "--learning_rate", "1"])
    assert (tmp_path / "metrics.jsonl").exists()  # nothing is deleted before the training starts
    with pytest.raises(SystemExit, match="2"):
        refuse([*argv, "--overwrite", "--model-name-or-path", str(tmp_path / "checkpoint-5")])
    assert "would delete the model" in capsys.readouterr().err
    empty_output(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("script", ["grpo.py", "sft.py"])
def test_help_needs_no_torch(script: str) -> None:
    code = f"import sys, runpy; sys.argv = ['{script}', '--help']\n"
    code += f"try: runpy.run_path('train/{script}', run_name='__main__')\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("False\n")
    assert "--help-all" in done.stdout


@pytest.mark.parametrize("script", [GRPO, SFT], ids=lambda script: str(script.name))
def test_the_early_options_are_those_of_trl(script: Script) -> None:
    from trl import GRPOConfig, ModelConfig, SFTConfig

    from longvideo_env.config import EnvConfig
    from train.options.flags import TrainingParser

    groups = {
        "train": (GrpoArguments, EnvConfig, GRPOConfig, ModelConfig),
        "sft": (SftArguments, EnvConfig, SFTConfig, ModelConfig),
    }
    dataclasses: Any = groups[script.name]
    late = TrainingParser(prog="x", config=True, dataclass_types=dataclasses)
    early = start_parser(script)
    for option, action in late._option_string_actions.items():
        if early._is_switch(early._known(f"--{option[5:]}")) and option[:4] == "--no":
            continue  # every switch accepts it
        mine = early._option_string_actions[early._known(option)]
        # A switch takes one value or none. Every other option takes the next word.
        is_switch = late._is_switch(option) and mine.nargs != "*"  # which takes none as well
        assert early._is_switch(early._known(option)) == is_switch, option
        assert action.nargs in (None, "?", 0) or mine.nargs in ("*", "+"), option


def test_a_switch_of_trl_needs_no_value() -> None:
    options, unknown = start_parser(GRPO).parse_known_args(["--use_vllm", "--use_cpu", "--bf16"])
    assert (options.use_vllm, options.use_cpu, options.bf16, unknown) == (True, True, True, [])


def test_the_bare_command_trains_as_the_recipe_of_mini_does(tmp_path: Path) -> None:
    recipe = parse(["--config", str(ROOT / "configs/grpo/mini.yaml"), "--output_dir", "x"])
    bare = parse(["--use_cpu", "--output_dir", "x"])
    kept = {"report_to", "save_total_limit", "distributed_state"}
    for one, other in zip(recipe, bare, strict=True):
        differ = {
            name
            for name, value in vars(one).items()
            if value != vars(other)[name] and name not in kept
        }
        assert differ == set()


@pytest.mark.parametrize(
    ("command", "loud"),
    [
        ("python /bin/accelerate launch train/grpo.py --quiet", True),
        ("python /bin/accelerate launch --quiet train/grpo.py", False),
        ("python /bin/accelerate-launch -q train/grpo.py", False),
        ("python /bin/accelerate-launch --use_cpu train/grpo.py", True),
        ("bash", False),
    ],
)
def test_which_launchers_speak_after_an_error(command: str, loud: bool) -> None:
    assert is_loud(command.split()) is loud
    assert is_loud(command.split(), several=True) is ("accelerate" in command)


@pytest.mark.slow
def test_an_error_is_the_last_line_under_accelerate() -> None:
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "train/grpo.py"]
    done = subprocess.run(
        [sys.executable, *command, "--dataset", "nowhere"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "CalledProcessError" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("longvideo-env train: ")
    assert "nowhere" in done.stderr.splitlines()[-1]


def played(turn: TurnRecord, how: str = "answered", earned: float | None = None) -> Trajectory:
    class Played:
        status = how
        reward = earned
        turns = (turn,)
        segments = (Segment("user", "Q"), Segment("assistant", "I  think\nso", sampled=True))

    return Played()  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("finish", "malformed", "said"),
    [
        ("length", "unclosed", "raise --max-turn-tokens"),
        ("stop", "no_action", "malformed"),
        ("stop", None, None),
    ],
)
def test_reward_0_explains_itself(finish: str, malformed: str | None, said: str | None) -> None:
    turn = TurnRecord(turn=1, finish=finish, malformed=malformed)

    episodes = [played(turn)]
    text = warning(episodes)
    assert (text is None) if said is None else (said in str(text))
    assert sample_reply(episodes) == "I think so"


def episode(status: str, reward: float) -> Trajectory:
    return played(TurnRecord(turn=1, finish="stop"), status, reward)


@pytest.mark.parametrize(
    ("episodes", "said"),
    [
        ([("out_of_turns", 0.0), ("out_of_context", 0.1)], "no episode reached an answer"),
        ([("answered", 1.1), ("answered", 1.1)], "every episode got the same reward"),
        ([("answered", 1.1), ("answered", 0.1)], None),
        ([("answered", 1.1), ("failed", 0.1)], None),
    ],
)
def test_steps_that_teach_nothing_are_named(
    episodes: list[tuple[str, float]], said: str | None
) -> None:
    text = warning([episode(*one) for one in episodes])
    assert (text is None) if said is None else (said in str(text) and "Fix: " in str(text))


def test_a_gap_of_log_probs_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    health = Health()
    health.check_log({"reward": 1.0}, 1)
    health.check_log({LOGP_GAP: MOST_GAP / 2}, 2)
    assert capsys.readouterr().err == ""
    health.check_log({LOGP_GAP: MOST_GAP * 2}, 3)
    err = capsys.readouterr().err
    assert "warning: step 3: log-probs of the engine" in err
    assert "Fix: " in err


def test_a_problem_is_said_again_more_and_more_rarely(capsys: pytest.CaptureFixture[str]) -> None:
    good = [played(TurnRecord(turn=1, finish="stop"))]
    bad = [played(TurnRecord(turn=1, finish="length"))]
    health = Health()
    health.check(good, 1)
    assert capsys.readouterr().err.splitlines()[-1] == "step 1, a sample reply: I think so"
    said = []
    for step in range(2, 202):
        health.check(bad, step)
        if err := capsys.readouterr().err:
            assert "a sample reply" in err
            said.append(step)
    assert said == [2, 11, 101]
