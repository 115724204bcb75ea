import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from longvideo_env.errors import (
    DataError,
    MalformedFileError,
    MissingExtraError,
    SpecError,
    StorageError,
)
from longvideo_env.records.metrics_log import read_run
from longvideo_env.records.plotting import COLOURS
from train.plot import main

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
BLUE, ORANGE = COLOURS[:2]

MakeRun = Callable[..., Path]


def record(step: int, reward: float | None = 0.5, **more: Any) -> dict[str, Any]:
    facts = {"accuracy": 0.6, "turns": 2.5, "tool_calls": 1.5, "malformed": 0.1}
    episodes = {f"episodes/{name}": value for name, value in facts.items()}
    return {"step": step, "reward": reward, "reward_std": 0.2, **episodes, **more}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes records to `NAME/metrics.jsonl`, with the summary that TRL logs at the end."""

    def make(*records: dict[str, Any], name: str = "run", torn: str = "") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        summary = {"step": records[-1]["step"], "train_runtime": 1.0} if records else {"step": 0}
        lines = [json.dumps(one) + "\n" for one in (*records, summary)]
        (folder / "metrics.jsonl").write_text("".join(lines) + torn, encoding="utf-8")
        return folder

    return make


def rising(steps: int = 20, start: float = 0.1) -> list[dict[str, Any]]:
    return [record(t, start + 0.02 * t, **{"episodes/accuracy": t / 40}) for t in range(1, steps)]


def texts(svg: Path) -> set[str]:
    tags = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    return {"".join(tag.itertext()).strip() for tag in tags}


def pixels(png: Path) -> np.ndarray:
    """Red, green and blue from 0 to 255. Shape: (height, width, 3)"""
    from matplotlib.image import imread

    return np.round(imread(png)[:, :, :3] * 255).astype(int)


def where(picture: np.ndarray, colour: str) -> np.ndarray:
    """Which pixels have the colour. Shape: (height, width)"""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(picture - wanted).max(axis=2) < 12


@pytest.mark.slow
def test_draws_four_panels_as_png_and_svg(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(*rising())
    main([str(run), "--baseline", "starter=0.42", "--title", "GRPO on mini"])
    png, svg = run / "curves.png", run / "curves.svg"
    assert capsys.readouterr().out == f"run: 19 records, steps 1 to 19\n{png}\n{svg}\n"
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    panels = {"Reward", "Accuracy", "Turns", "Tool use", "turns per episode", "training step"}
    legend = {"as logged", "centred mean over 10 steps", "all tools", "malformed"}
    assert panels | legend | {"starter 0.42", "GRPO on mini"} <= texts(svg)
    assert not list(run.glob("*.partial"))


@pytest.mark.slow
def test_the_curve_is_in_the_picture_and_rises(make_run: MakeRun) -> None:
    run = make_run(*rising())
    main([str(run)])
    picture = pixels(run / "curves.png")
    height, width, _ = picture.shape
    assert width >= 1200
    assert height >= 800
    blue = where(picture[: height // 2, : width // 2], BLUE)
    columns = np.flatnonzero(blue.any(axis=0))
    assert len(columns) > 0.7 * (width // 2), "the reward panel has no curve"
    assert blue[:, columns[0]].argmax() > blue[:, columns[-1]].argmax() + 100, "row 0 is the top"


@pytest.mark.slow
def test_equal_records_give_equal_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(*rising())
    main([str(run), "--out", str(tmp_path / "one.png")])
    main([str(run), "--out", f"{tmp_path / 'two'}/"])
    for kind in ("png", "svg"):
        one, two = tmp_path / f"one.{kind}", tmp_path / "two" / f"curves.{kind}"
        assert one.read_bytes() == two.read_bytes()
        assert b"<dc:date>" not in one.read_bytes()


@pytest.mark.slow
def test_several_runs_have_a_colour_each_and_a_mean(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(*rising(start=i / 2), name=f"seed{i}") for i in range(2)]
    main([*map(str, runs), "--out", str(tmp_path / "both"), "--smooth", "1"])
    shown = texts(tmp_path / "both.svg")
    assert {"seed0", "seed1", "mean of the 2 runs", "minimum to maximum"} <= shown
    assert "Lines: as logged" in shown
    picture = pixels(tmp_path / "both.png")
    for colour in (BLUE, ORANGE, "#222222"):
        assert where(picture, colour).sum() > 500


@pytest.mark.slow
def test_the_mean_is_over_steps_that_all_runs_logged(make_run: MakeRun, tmp_path: Path) -> None:
    late = [record(t) for t in range(15, 30)]
    runs = [make_run(*rising(), name="early"), make_run(*late, name="late")]
    names = ["--label", "short", "--label", "long"]
    main([*map(str, runs), *names, "--out", str(tmp_path / "both")])
    assert {"short", "long", "mean of the 2 runs"} <= texts(tmp_path / "both.svg")

    apart = make_run(*[record(t) for t in range(100, 110)], name="apart")
    main([str(runs[0]), str(apart), "--out", str(tmp_path / "two")])
    assert "mean of the 2 runs" not in texts(tmp_path / "two.svg")


@pytest.mark.slow
def test_held_out_accuracy_is_drawn_at_its_steps(make_run: MakeRun) -> None:
    held_out = [
        {"step": t, "eval/accuracy": 0.5, "eval/accuracy_low": 0.4, "eval/accuracy_high": 0.6}
        for t in (10, 15, 25)
    ]
    run = make_run(*sorted([*rising(), *held_out], key=lambda one: one["step"]))
    log = read_run(run, "run")
    assert log.steps.tolist() == [*range(1, 20), 25]
    evaluated = np.isfinite(log.columns["eval/accuracy"])
    assert log.steps[evaluated].tolist() == [10, 15, 25]
    assert np.isfinite(log.columns["reward"][:-1]).all(), "the step's own record is kept"
    main([str(run)])
    assert "Accuracy (points: held out)" in texts(run / "curves.svg")


@pytest.mark.slow
def test_tools_are_told_apart_where_they_were_logged(make_run: MakeRun) -> None:
    calls = {"episodes/grounding_calls": 1.0, "episodes/vision_calls": 0.5}
    run = make_run(*[record(t, **calls) for t in range(1, 4)])
    main([str(run)])
    assert {"grounding", "vision", "malformed"} <= texts(run / "curves.svg")
    assert "all tools" not in texts(run / "curves.svg")


@pytest.mark.slow
def test_what_was_not_logged_is_said(make_run: MakeRun) -> None:
    run = make_run({"step": 1, "reward": 0.5})
    main([str(run)])
    assert "not logged" in texts(run / "curves.svg")
    assert where(pixels(run / "curves.png"), BLUE).any(), "a single point is marked"


def test_a_resumed_run_goes_on_from_where_it_began_again(make_run: MakeRun) -> None:
    first = [record(t, 0.0) for t in (1, 2, 3, 4)]
    run = read_run(make_run(*first, record(3, 1.0)), "run")
    assert run.steps.tolist() == [1, 2, 3]
    assert run.columns["reward"].tolist() == [0.0, 0.0, 1.0]


def test_the_mean_is_centred_counts_steps_and_skips_what_is_missing(make_run: MakeRun) -> None:
    rewards = {1: 1.0, 2: 2.0, 3: None, 4: 4.0, 9: 9.0}
    run = read_run(make_run(*[record(t, value) for t, value in rewards.items()]), "run")
    assert run.mean("reward", 3).tolist() == [1.5, 1.5, 3.0, 4.0, 9.0]
    np.testing.assert_equal(run.mean("reward", 1), [1.0, 2.0, np.nan, 4.0, 9.0])


def test_a_torn_last_line_is_left_out_with_a_note(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = read_run(make_run(record(1), torn='{"step": 2, "rew'), "run")
    assert run.steps.tolist() == [1]
    assert "last line is incomplete" in capsys.readouterr().err


def test_a_line_torn_further_up_is_an_error(make_run: MakeRun) -> None:
    with pytest.raises(MalformedFileError, match="row 3"):
        read_run(make_run(record(1), torn='{"step": 2, "rew\n'), "run")


@pytest.mark.parametrize("line", ["[1]", '{"reward": 1.0}', '{"step": "1"}'])
def test_lines_that_are_no_records_are_errors(line: str, make_run: MakeRun) -> None:
    with pytest.raises(MalformedFileError, match='JSON object with "step"'):
        read_run(make_run(record(1), torn=line + "\n"), "run")


def test_missing_empty_and_rewardless_files_are_errors(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics\.jsonl: expected .* No such file"):
        main([str(tmp_path)])
    with pytest.raises(DataError, match="no record has a reward"):
        main([str(make_run(record(1, None)))])
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(DataError, match="the file is empty"):
        main([str(tmp_path / "metrics.jsonl")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--smooth", "0"], "at least 1, got 0"),
        (["--baseline", "0.42"], "NAME=VALUE"),
        (["--baseline", "starter=42"], "from 0 to 1"),
        (["--label", "a", "--label", "b"], "one for each RUN"),
        (["--label", "_a"], "leave out"),
        (["run"], "must differ"),
        ([str(i) for i in range(8)], "at most 8 runs"),
    ],
)
def test_options_without_meaning_are_errors(flags: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        main(["run", *flags])


@pytest.mark.slow
def test_runs_whose_folders_share_a_name_go_by_their_paths(
    make_run: MakeRun, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    runs = [make_run(record(1), record(2), name=f"{name}/out") for name in ("a", "b")]
    main([*map(str, runs), "--out", str(tmp_path / "both")])
    assert {str(run) for run in runs} <= texts(tmp_path / "both.svg")


def test_a_place_that_cannot_be_written_to_is_an_error(make_run: MakeRun) -> None:
    run = make_run(record(1))
    with pytest.raises(StorageError, match="cannot be written"):
        main([str(run), "--out", str(run / "metrics.jsonl" / "curves")])


def test_without_matplotlib_the_error_names_the_extra(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.style", raising=False)
    with pytest.raises(MissingExtraError, match=r"longvideo-env\[report\]"):
        main([str(make_run(record(1)))])


def test_the_command_line_is_light_and_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "train/plot.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 1
    assert len(said) == 1
    assert said[0].startswith(f"longvideo-env plot: {tmp_path}")
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "numpy" in imported
    assert not imported & {"torch", "trl", "transformers", "matplotlib.pyplot"}
