"""Agents without input stop a run before it begins, or are named with its result."""

import json
import shutil
from pathlib import Path

import pytest

import longvideo_env as lv
from eval.run_policy import main
from longvideo_env.errors import BlindAgentError

EMBEDDED = Path(__file__).parents[2] / "longvideo_env/datasets/embedded"


@pytest.fixture
def data(tmp_path):
    return shutil.copytree(EMBEDDED, tmp_path / "data")


def run(tmp_path, *more, policy="random"):
    args = ["--policy", policy, "--dataset", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    return main([*args, *more])


def blind(tmp_path):
    return json.loads((tmp_path / "out/random/summary.json").read_text()).get("blind")


def unread(data, keep="no video"):
    """Remove the captions of all videos except one."""
    found = json.loads((data / "captions.json").read_text())
    kept = {clip: lines for clip, lines in found.items() if clip.startswith(keep)}
    (data / "captions.json").write_text(json.dumps(kept))


def test_a_vision_agent_without_anything_stops_the_run_before_it_begins(data, tmp_path, capsys):
    unread(data)
    assert run(tmp_path) == 2
    err = capsys.readouterr().err
    assert "videos has captions, which --vision captions reads. Fix: make them with" in err
    assert "--allow-blind" in err
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, "--vision", "none") == 0
    assert blind(tmp_path) is None


def test_it_goes_on_where_that_is_wanted_and_says_so_beside_the_result(data, tmp_path, capsys):
    unread(data)
    assert run(tmp_path, "--allow-blind") == 0
    out = capsys.readouterr().out
    assert "(blind vision)" in out
    assert "videos has captions" in out
    config = json.loads((tmp_path / "out/random/config.json").read_text())
    assert not [key for key in config if "blind" in key]
    assert run(tmp_path) == 0  # the run started with it, so it continues with it
    (gap,) = blind(tmp_path)
    assert gap["without"] == gap["of"] > 1


def test_some_videos_without_anything_are_counted(data, tmp_path, capsys):
    unread(data, keep="s01e04")
    assert run(tmp_path) == 0
    out = capsys.readouterr().out
    assert "(blind" not in out
    assert "1 of 2 videos have no captions, which --vision captions reads" in out
    (gap,) = blind(tmp_path)
    assert (gap["role"], gap["without"], gap["of"]) == ("vision", 1, 2)


@pytest.mark.parametrize("agent", ["bm25", "lines", "openai:gpt@http://127.0.0.1:9/v1"])
def test_a_grounding_agent_needs_lines(data, tmp_path, capsys, agent):
    if agent.startswith("openai"):
        pytest.importorskip("openai")
    next(data.glob("*_episode_level.json")).unlink()
    file = next(data.glob("*_clip_level.json"))
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), "")))
    (data / "captions.json").unlink()
    assert run(tmp_path, "--grounding", agent, "--vision", "none") == 2
    assert f"which --grounding {agent} searches. Fix:" in capsys.readouterr().err
    assert run(tmp_path, "--grounding", "random", "--vision", "none") == 0


def test_in_one_call(data, tmp_path):
    unread(data)
    with pytest.raises(BlindAgentError, match="allow_blind=True"):
        lv.evaluate("random", dataset=str(data), out=tmp_path / "a")
    options = {"dataset": str(data), "limit": 2}
    result = lv.evaluate("random", **options, out=tmp_path / "a", allow_blind=True)
    assert "blind vision" in str(result)
    # Without the tool `look`, the vision agent is not used.
    without = lv.evaluate("random", **options, out=tmp_path / "b", tools="ground")
    assert "blind" not in without.summary


@pytest.mark.parametrize("dataset", ["mini", "embedded"])
def test_what_ships_has_all_that_its_agents_need(dataset, tmp_path):
    found = lv.evaluate("random", dataset=dataset, limit=4, out=tmp_path)
    assert "blind" not in found.summary
