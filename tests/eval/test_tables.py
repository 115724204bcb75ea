import csv
import json
import re
from pathlib import Path

import pytest

from eval.metrics.paired import holm
from eval.metrics.pairs import count_folders
from eval.output.comparisons import format_p, power_lines
from eval.output.published import ABLATIONS, MAIN
from eval.tables import main
from longvideo_env.commands.typeset import Table, to_csv, to_latex, to_markdown

MINI = ("--dataset", "mini:videos=5", "--split", "test")
AWKWARD = Table("odd", "50 % & more_", ["policy", "n"], [["a|b_{x}\\", "1"]], "#1 ~ ^")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    policies = ["--policy", "teacher:mini:0:0", "--policy", "random"]
    agents = ["--vision-agent", "captions", "--vision-agent", "captions:1"]
    assert main([*policies, *agents, *MINI, "--out", str(folder)]) == 0
    return folder


def values(folder: Path) -> dict[tuple[str, str, str, str], str]:
    with open(folder / "tables.csv", encoding="utf-8", newline="") as file:
        return {
            (row["table"], row["policy"], row["variant"], row["column"]): row["value"]
            for row in csv.DictReader(file)
        }


def test_every_table_has_every_policy_beside_the_published_numbers(out: Path) -> None:
    found = values(out)
    assert {key[0] for key in found} == {"main", "components", "turns", "window", "vision"}
    teacher = {key[2]: value for key, value in found.items() if key[1] == "teacher:mini:0:0"
               and key[0] == "components" and key[3] == "answer"}  # fmt: skip
    assert float(teacher["+ vision"]) > float(teacher["+ grounding"]) > 0
    published = [v for key, v in found.items() if key[0] == "turns" and "published" in key[3]]
    assert published.count("73.67") == 4, "K = 5 and 10, for each of two policies"
    assert found["main", "GPT-4o (published)", "", "LongTVQA+"] == "78.32"


def test_the_numbers_are_those_of_the_runs(out: Path) -> None:
    found = values(out)
    for folder in ("text-only", "max-turns-2", "window-3", "vision-captions-1"):
        summary = json.loads((out / "random" / folder / "summary.json").read_text())
        config = json.loads((out / "random" / folder / "config.json").read_text())
        if folder == "text-only":
            assert (config["grounding"], config["vision"]) == ("none", "none")
            assert summary["tool_calls"] == {"opening": 0}, "nobody chooses its clip"
        variant = {"text-only": "text only", "max-turns-2": "K = 2", "window-3": "3 clips"}
        answer = next(
            value
            for key, value in found.items()
            if key[1:] == ("random", variant.get(folder, "captions:1"), "answer")
        )
        assert answer == f"{100 * summary['accuracy']:.2f}"


def test_variants_are_paired_with_the_run_as_configured(out: Path) -> None:
    found = values(out)
    key = ("window", "random", "3 clips")
    numbers = count_folders(out / "random" / "full", out / "random" / "window-3")
    assert numbers is not None
    assert found[(*key, "- full")] == f"{100 * numbers['difference']:+.2f}"
    low, high = numbers["difference_ci95"]
    assert found[(*key, "its 95% CI")] == f"{100 * low:+.1f}, {100 * high:+.1f}"
    assert float(found[(*key, "p (Holm)")]) >= numbers["p"]
    assert ("window", "random", "1 clip", "p (Holm)") not in found, "full has nothing to beat"
    note = (out / "tables.md").read_text(encoding="utf-8")
    assert "p is Holm's, n = 4." in note
    assert "5 videos are few" in note
    assert (out / "random" / "recording.sqlite").is_file()


def test_policies_are_paired_with_the_first_and_p_is_holms_over_policies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = ["teacher:mini:0:0", "random", "scripted:answer"]
    args = [part for policy in policies for part in ("--policy", policy)]
    mini = ("--dataset", "mini:videos=8", "--split", "test")
    assert main([*args, *mini, "--table", "main", "--out", str(tmp_path)]) == 0
    found = values(tmp_path)
    full = {p: tmp_path / p.replace(":", "-") / "full" for p in policies}
    against = {p: count_folders(full[policies[0]], full[p]) for p in policies[1:]}
    expected = holm([numbers["p"] for numbers in against.values() if numbers])
    for (policy, numbers), p in zip(against.items(), expected, strict=True):
        assert numbers is not None
        assert found["main", policy, "", "- first"] == f"{100 * numbers['difference']:+.2f}"
        assert found["main", policy, "", "p (Holm)"] == format_p(p)
    assert ("main", policies[0], "", "- first") not in found
    assert "- first: paired with teacher:mini:0:0; p is Holm's, n = 2." in capsys.readouterr().out


def test_what_it_would_take_stands_under_what_is_not_significant(out: Path) -> None:
    text = (out / "tables.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    numbers = count_folders(out / "random" / "full", out / "random" / "window-3")
    assert numbers is not None
    assert f"- random, 3 clips: {power_lines(numbers)[0]}" in lines
    assert all(": not significant: " in line for line in lines)
    latex = (out / "tables.tex").read_text(encoding="utf-8")
    assert latex.count("\n% ") >= len(lines)


def test_what_equals_the_given_options_is_played_once(out: Path) -> None:
    played = {path.parent.name for path in (out / "random").glob("*/summary.json")}
    assert "full" in played
    assert played & {"with-grounding-and-vision", "max-turns-5", "window-1"} == set()


def test_collecting_plays_nothing_and_prints_the_same(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: (out / f"tables.{name}").read_text(encoding="utf-8") for name in ("md", "tex")}
    assert main(["--collect", "--out", str(out)]) == 0
    assert capsys.readouterr().out == files["md"]
    assert main(["--collect", "--out", str(out), "--format", "tex"]) == 0
    assert capsys.readouterr().out == files["tex"]
    assert main(["--collect", "--out", str(out), "--policy", "scripted:answer"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "scripted:answer" in line)
    assert set(row.split("|")[3].strip()) == {"-"}, "what was not played is a dash"


def test_bad_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for bad, code in (
        (["--collect", "--out", str(tmp_path)], 1),
        (["--policy", "random", "--out", str(tmp_path), "--table", "vision"], 2),
        (["--policy", "nobody", "--out", str(tmp_path)], 2),
    ):
        assert main(bad) == code
        assert capsys.readouterr().err.startswith("longvideo-env tables: ")


def test_awkward_names_are_escaped() -> None:
    assert "a\\|b_{x}\\" in to_markdown([AWKWARD])
    latex = to_latex([AWKWARD])
    assert r"a\textbar{}b\_\{x\}\textbackslash{} & 1 \\" in latex
    assert r"\caption{50 \% \& more\_. \#1 \textasciitilde{} \textasciicircum{}}" in latex
    assert to_csv([AWKWARD]).splitlines()[1] == "odd,1,a|b_{x}\\,,n,1"


def test_small_numbers_stand_right() -> None:
    table = Table("p", "p", ["policy", "p"], [["a", "1.2e-09"], ["b", "-"]])
    assert not table.is_text(1)
    assert table.is_text(0)


def test_latex_tables_are_whole(out: Path) -> None:
    latex = (out / "tables.tex").read_text(encoding="utf-8")
    for block in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", latex, re.DOTALL):
        rows = [line for line in block[1].splitlines() if line.endswith(r"\\")]
        assert rows
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(block[0])}


def test_published_numbers_are_percentages() -> None:
    numbers = [n for row in ABLATIONS.values() for n in row if n is not None]
    numbers += [system.longtvqa_plus for system in MAIN]
    assert all(20 < number < 100 for number in numbers)
    assert ABLATIONS["window-3"] == (77.26, 81.94)
