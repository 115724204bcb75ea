"""One option, `--format`, on every command that prints a table."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.table import Table as RichTable

from eval.bundle.run_table import main as table
from eval.compare import main as compare
from eval.run_policy import main as evaluate
from longvideo_env.commands.typeset import Table, from_rich, output_console, to_json


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    options = ("--limit", "20", "--out", str(out), "--policy", "random")
    assert evaluate([*options, "--policy", "scripted:ground-look-answer"]) == 0
    return out


def test_standard_output_is_the_table_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--limit", "5", "--out", str(tmp_path), "--policy", "random", "--format", "csv")
    assert evaluate(options) == 0
    said = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(said.out.rstrip())))
    assert [row["policy"] for row in rows] == ["random"]
    assert rows[0]["n"] == "5"
    assert "Episodes and summaries" in said.err


def test_the_format_is_forgotten_with_the_next_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--limit", "5", "--out", str(tmp_path), "--policy", "random")
    assert evaluate([*options, "--format", "json"]) == 0
    assert evaluate(options) == 0
    assert "Episodes and summaries" in capsys.readouterr().out


@pytest.mark.parametrize("style", ["text", "md", "tex", "csv", "json"])
def test_a_table_of_any_runs(runs: Path, style: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert table([str(runs), "--format", style]) == 0
    said = capsys.readouterr().out
    accuracy = json.loads((runs / "random/summary.json").read_text(encoding="utf-8"))["accuracy"]
    assert (f"{accuracy:.3f}" if style != "json" else str(round(accuracy, 3))) in said
    if style == "tex":
        assert r"\toprule" in said
    if style == "json":
        found, pairs = map(json.loads, said.splitlines())
        assert found["rows"][0]["accuracy"] == round(accuracy, 3)
        assert found["rows"][0]["n"] == 20
        assert pairs["rows"][0]["against"] == "random"


def test_names_are_given_or_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table([str(runs), "--names", "floor", "script", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[0])
    assert [row["run"] for row in found["rows"]] == ["floor", "script"]
    assert table([str(runs), "--names", "floor"]) == 2
    assert "expected 2 different --names" in capsys.readouterr().err


def test_compare_as_latex(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(runs / "random"), str(runs / "scripted-ground-look-answer")]
    assert compare([*folders, "--format", "tex"]) == 0
    said = capsys.readouterr()
    assert said.out.count(r"\begin{tabular}") == said.out.count(r"\bottomrule") >= 2
    assert "difference B - A" in said.err


def test_what_a_terminal_shows_becomes_texts() -> None:
    shown = RichTable("[b]policy[/b]", "95% CI", "n", "95% CI", title="Some [i]runs[/i]")
    shown.add_row("a|b & [red]c[/]", "-", "1,234", "0.1-0.2")
    found = from_rich(shown)
    assert found.caption == "Some runs"
    assert found.rows == [("a|b & c", "-", "1,234", "0.1-0.2")]
    assert json.loads(to_json(found))["rows"] == [
        {"policy": "a|b & c", "policy 95% CI": None, "n": "1,234", "n 95% CI": "0.1-0.2"}
    ]


def test_numbers_are_numbers_in_json() -> None:
    one = Table("x", "X", ("i", "f", "s", "e"), [("12", "-0.5", "3.00 s", "1.2e-05")])
    assert json.loads(to_json(one))["rows"] == [{"i": 12, "f": -0.5, "s": "3.00 s", "e": 1.2e-05}]


def test_a_pipe_gets_a_wide_console() -> None:
    assert output_console().width >= 80
