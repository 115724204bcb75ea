"""What a training says before and while it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longvideo_env.records.trajectory import Segment, Trajectory, TurnRecord
from train.options.grpo_options import DESCRIPTION, GrpoArguments
from train.options.start import check_start, empty_output
from train.rollouts.health import sample_reply, warning

ROOT = Path(__file__).parents[2]


def refuse(argv: list[str]) -> None:
    check_start(argv, GrpoArguments, DESCRIPTION)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dataset", "nowhere"], "nowhere"),
        (["--model_name_or_path", "./nowhere"], "there is no model in ./nowhere"),
        (["--max_turns", "0"], "max_turns must be at least 1"),
    ],
)
def test_what_cannot_work_is_refused_early(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        refuse(argv)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_holds_a_run_is_not_trained_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    argv = ["--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit, match="2"):
        refuse(argv)
    assert "holds a run" in capsys.readouterr().err
    refuse([*argv, "--resume_from_checkpoint", "true"])
    assert (tmp_path / "metrics.jsonl").exists()
    refuse([*argv, "--overwrite", "--a_typo", "1"])
    assert (tmp_path / "metrics.jsonl").exists()  # nothing goes before all options are known
    with pytest.raises(SystemExit, match="2"):
        refuse([*argv, "--overwrite", "--model_name_or_path", str(tmp_path / "checkpoint-5")])
    assert "would delete the model" in capsys.readouterr().err
    empty_output(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_help_needs_no_torch() -> None:
    code = "import sys, runpy; sys.argv = ['grpo.py', '--help']\n"
    code += "try: runpy.run_path('train/grpo.py', run_name='__main__')\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("False\n")
    assert "--help-all" in done.stdout


@pytest.mark.parametrize(
    ("finish", "malformed", "said"),
    [
        ("length", "unclosed", "raise --max_turn_tokens"),
        ("stop", "no_action", "malformed"),
        ("stop", None, None),
    ],
)
def test_reward_0_explains_itself(finish: str, malformed: str | None, said: str | None) -> None:
    turn = TurnRecord(turn=1, finish=finish, malformed=malformed)

    class Played:
        status = "out_of_turns"
        turns = (turn,)
        segments = (Segment("user", "Q"), Segment("assistant", "I  think\nso", sampled=True))

    episodes: list[Trajectory] = [Played()]  # type: ignore[list-item]
    text = warning(episodes)
    assert (text is None) if said is None else (said in str(text))
    assert sample_reply(episodes) == "I think so"
