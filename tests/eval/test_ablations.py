import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval.ablations import VARIANTS, main

ROOT = Path(__file__).parents[2]
MINI = ("--dataset", "mini:videos=5", "--split", "test")


def run(out, *args, policy="teacher:mini:0:0"):
    return main(["--policy", policy, "--out", str(out), *MINI, *args])


def only(*names):
    return [part for name in names for part in ("--variant", name)]


def report(out):
    return json.loads((out / "ablations.json").read_text(encoding="utf-8"))


def test_every_variant_is_played_once_and_reported(tmp_path, capsys):
    assert run(tmp_path) == 0
    played = report(tmp_path)["variants"]
    assert list(played) == [variant.name for variant in VARIANTS]
    as_full = {name for name, row in played.items() if row["played_as"] == "full"}
    assert as_full == {"full", "max-turns-5", "window-1"}
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {row["played_as"] for row in played.values()}
    out = capsys.readouterr().out
    assert "teacher:mini:0:0 on mini:videos=5, split test" in out
    assert "window-1 (= full)" in out
    page = (tmp_path / "ablations.md").read_text(encoding="utf-8")
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(VARIANTS) + 2 + 6, "six were played besides full"
    assert len({line.count("|") for line in table}) == 2
    assert "look_here" in table[0]
    assert "mini:" not in table[0]


def test_what_is_taken_away_is_missed_where_it_is_needed(tmp_path):
    assert run(tmp_path, *only("full", "no-vision", "no-grounding", "max-turns-1")) == 0
    rows = {name: row["summary"] for name, row in report(tmp_path)["variants"].items()}
    assert rows["full"]["by_show"]["mini:look_here"]["accuracy"] == 1.0
    assert rows["no-vision"]["behaviour"]["looked"] == 0.0
    assert rows["no-vision"]["by_show"]["mini:look_here"]["accuracy"] < 1.0
    assert rows["no-vision"]["by_show"]["mini:say_here"]["accuracy"] == 1.0
    assert rows["full"]["tool_calls"]["ground"] > 0
    assert "ground" not in rows["no-grounding"]["tool_calls"]
    assert rows["no-grounding"]["tool_calls"]["opening"] > 0
    assert rows["no-grounding"]["by_show"]["mini:say_elsewhere"]["accuracy"] < 1.0
    assert rows["no-grounding"]["by_show"]["mini:say_here"]["accuracy"] == 1.0
    assert rows["max-turns-1"]["mean_turns"] == 1.0


def test_variants_are_paired_with_full_on_one_recording(tmp_path, capsys):
    few = only("full", "no-vision", "window-2")
    assert run(tmp_path, *few) == 0
    variants = report(tmp_path)["variants"]
    assert variants["full"]["against_full"] is None
    numbers = variants["no-vision"]["against_full"]
    lost = variants["full"]["summary"]["accuracy"] - variants["no-vision"]["summary"]["accuracy"]
    assert numbers["difference"] == pytest.approx(-lost)
    assert numbers["n"] == 20
    assert numbers["p_holm"] == min(1.0, 2 * numbers["p"])
    out = capsys.readouterr().out
    for part in ("variant - full", "Holm's, for 2 comparisons", "5 videos are few"):
        assert part in out
    for text in (out, (tmp_path / "ablations.md").read_text(encoding="utf-8")):
        assert "no-vision: not significant: fewer than 6 videos cannot show a difference" in text
    recordings = [row["summary"]["recording"] for row in variants.values()]
    assert {recording["mode"] for recording in recordings} == {"reuse"}
    assert recordings[1]["asked"] == 0, "what full asked is told alike"
    assert run(tmp_path / "alone", *only("no-vision")) == 0
    assert report(tmp_path / "alone")["variants"]["no-vision"]["against_full"] is None


def test_a_policy_that_asks_for_a_removed_tool_spends_its_turn(tmp_path, monkeypatch):
    from agents.policies.scripted import ScriptedPolicy
    from longvideo_env.game.policy import Reply

    async def look(self, context, /):
        return Reply("<search>what is there</search>")

    monkeypatch.setattr(ScriptedPolicy, "act", look)
    assert run(tmp_path, *only("no-vision"), "--max-turns", "2", policy="scripted:answer") == 0
    summary = report(tmp_path)["variants"]["no-vision"]["summary"]
    assert summary["malformed_kinds"] == {"unavailable": 40}
    assert summary["status"] == {"out_of_turns": 20}


def test_full_is_whatever_is_configured(tmp_path):
    assert run(tmp_path, *only("window-1", "window-2"), "--window", "2") == 0
    variants = report(tmp_path)["variants"]
    assert {name: row["played_as"] for name, row in variants.items()} == {
        "window-1": "window-1",
        "window-2": "full",
    }


def test_a_second_call_resumes(tmp_path):
    assert run(tmp_path, *only("full"), "--limit", "4") == 0
    path = tmp_path / "full" / "episodes.jsonl"
    first = path.read_text().splitlines()
    assert run(tmp_path, *only("full", "no-vision")) == 0
    assert set(first) < set(path.read_text().splitlines())
    assert report(tmp_path)["variants"]["full"]["summary"]["n_finished"] == 20


def test_failures_exit_3(tmp_path, monkeypatch):
    from agents.vision.captions import CaptionVision
    from longvideo_env.errors import ToolError

    async def down(self, request, /):
        raise ToolError("the endpoint is down")

    monkeypatch.setattr(CaptionVision, "look", down)
    assert run(tmp_path, *only("full")) == 3


@pytest.mark.parametrize(
    ("args", "problem", "code"),
    [
        (("--variant", "no-brain"), "unknown --variant 'no-brain'; expected one of: full,", 2),
        (("--window", "9"), "window", 2),
        (("--split", "tset"), "tset", 1),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, capsys, args, problem, code):
    assert run(tmp_path, *args) == code
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("longvideo-env ablations: ")
    assert problem in error


def test_yaml_names_one_policy(tmp_path, capsys):
    config = tmp_path / "ablations.yaml"
    text = f"out: {tmp_path / 'x'}\ndataset: mini:videos=1\nvariant: full\n"
    config.write_text(f"policy: random\n{text}")
    assert main(["--config", str(config)]) == 0
    assert list(report(tmp_path / "x")["variants"]) == ["full"]
    config.write_text(f"policy: [random, 'scripted:answer']\n{text}")
    with pytest.raises(SystemExit, match="2"):
        main(["--config", str(config)])
    assert "expected one --policy" in capsys.readouterr().err


@pytest.mark.slow
def test_started_as_a_script_and_help_lists_the_variants():
    text = subprocess.run(
        [sys.executable, str(ROOT / "eval/ablations.py"), "--help-all"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for part in ("--policy", "--variant", "Exit codes", *(v.name for v in VARIANTS)):
        assert part in text
