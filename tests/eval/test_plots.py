import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from eval.plots import main
from eval.run_policy import main as run_policy

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two policies, one of them with two turn limits."""
    out = tmp_path_factory.mktemp("runs")
    mini = ["--dataset", "mini:videos=5", "--split", "test"]
    for turns in ("2", "5"):
        args = ["--policy", "teacher:mini:0:0", *mini, "--max-turns", turns]
        assert run_policy([*args, "--out", str(out / turns)]) == 0
    assert run_policy(["--policy", "random", *mini, "--out", str(out / "5")]) == 0
    return out


@pytest.fixture
def trainings(tmp_path: Path) -> list[Path]:
    folders = []
    for seed in (0, 1, 2):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        records = [
            {"step": t, "reward": 0.1 * t + 0.01 * seed, "reward_std": 0.2} for t in range(1, 9)
        ]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
        folders.append(folder)
    return folders


def texts(svg: Path) -> set[str]:
    tags = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    return {"".join(tag.itertext()).strip() for tag in tags}


@pytest.mark.parametrize(
    ("cost", "axis"),
    [("tool_calls", "tool calls per episode"), ("seconds", "seconds per episode")],
)
def test_accuracy_against_cost(runs: Path, tmp_path: Path, cost: str, axis: str) -> None:
    stem = tmp_path / "plot"
    assert main(["cost", str(runs / "5"), "--cost", cost, "--out", str(stem)]) == 0
    assert {"random", "teacher:mini:0:0", axis, "accuracy"} <= texts(tmp_path / "plot.svg")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_accuracy_against_turns_has_a_line_a_policy(runs: Path, tmp_path: Path) -> None:
    stem = tmp_path / "plot.svg"
    assert main(["turns", str(runs / "2"), str(runs / "5"), "--out", str(stem)]) == 0
    shown = texts(tmp_path / "plot.svg")
    assert {"teacher:mini:0:0", "teacher:mini:0:0: grounding", "most turns K", "2", "5"} <= shown


def test_curves_of_several_seeds_have_a_band(trainings: list[Path], tmp_path: Path) -> None:
    seeds = [str(path) for path in trainings]
    args = ["--metric", "reward", "--out", str(tmp_path / "plot")]
    assert main(["curves", *seeds, *args]) == 0
    assert "95 % t-interval of the mean, 3 runs" in texts(tmp_path / "plot.svg")
    assert main(["curves", seeds[0], *args]) == 0
    assert "± 1 standard deviation of episodes' rewards" in texts(tmp_path / "plot.svg")


def test_equal_runs_give_equal_bytes(runs: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["cost", str(runs / "5"), "--out", str(tmp_path / name)]) == 0
    for kind in ("png", "svg"):
        one, two = tmp_path / f"one.{kind}", tmp_path / f"two.{kind}"
        assert one.read_bytes() == two.read_bytes()


def test_bad_input_is_one_clear_line(
    runs: Path, trainings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "plot")]
    for bad, said, code in (
        (["cost", str(runs / "5"), "--cost", "usd", *out], "choose another --cost", 2),
        (["curves", str(trainings[0]), "--metric", "nothing", *out], "did not log 'nothing'", 2),
        (["curves", str(tmp_path / "gone"), *out], "expected a training run's metrics", 1),
        (["turns", str(trainings[0]), *out], "with max_turns in their config.json", 2),
    ):
        assert main(bad) == code
        err = capsys.readouterr().err
        assert err.splitlines()[-1].startswith("longvideo-env plots: ")
        assert said in err
