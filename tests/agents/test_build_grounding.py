import json

import pytest

import longvideo_env as lv
from agents.grounding.build_grounding import main
from longvideo_env import EnvConfig, RolloutEngine, load_dataset
from longvideo_env.sync import run_blocking
from longvideo_env.tools.recording import export_calls
from longvideo_env.tools.registry import build_toolbox


def build(tmp_path, *more):
    args = ["--dataset", "embedded", "--split", "val", "--out", str(tmp_path / "first.sqlite")]
    return main([*args, *more])


async def play_all(engine, tasks):
    return [t async for t in engine.play_all((task, 0) for task in tasks)]


def test_episodes_find_their_first_clips_recorded(tmp_path, capsys):
    pytest.importorskip("openai")
    assert build(tmp_path, "--limit", "2") == 0
    assert build(tmp_path) == 0
    dataset = load_dataset("embedded", "val")
    n = len(dataset)
    assert f"{n} of {n} first clips" in capsys.readouterr().out
    config = EnvConfig(
        split="val", recording="replay", recording_file=str(tmp_path / "first.sqlite"),
        vision="none",
    )  # fmt: skip
    from agents.policies.build import build_policy

    engine = RolloutEngine(
        dataset=dataset, config=config, toolbox=build_toolbox(config, dataset),
        policy=build_policy("scripted:answer"), policy_spec="scripted:answer",
    )  # fmt: skip
    played = run_blocking(play_all(engine, dataset.tasks))
    assert [t.error for t in played if t.error] == []


def test_the_published_codes_cache_is_taken(tmp_path, capsys):
    dataset = load_dataset("embedded", "val")
    tasks = dataset.tasks
    wanted = dataset.video(tasks[0]).clip_ids[1]
    short = dataset.video(tasks[1]).clip_ids[0].partition("_")[2]
    entries = [
        {"question": tasks[0].question.text, "clip": wanted, "status": "ok"},
        {"question": tasks[1].question.text, "clip": short, "status": "ok"},
        {"question": tasks[2].question.text, "clip": "", "status": "error"},
        {"question": tasks[3].question.text, "clip": "s77e77_seg01_clip_00", "status": "ok"},
        {"question": "never asked", "clip": wanted, "status": "ok"},
    ]
    cache = tmp_path / "cache.json"
    cache.write_text(json.dumps({str(i): entry for i, entry in enumerate(entries)}))
    assert build(tmp_path, "--from-cache", str(cache), "--no-ask") == 0
    out = capsys.readouterr().out
    assert "taken: 2" in out
    assert "no clip of the video: 2" in out
    assert "question not in this split: 1" in out
    lines = list(export_calls(tmp_path / "first.sqlite"))
    views = [json.loads(json.loads(line)["value"])["view"] for line in lines]
    assert wanted in views


@pytest.mark.parametrize("shuffle", [None, 3])
def test_a_limit_takes_the_questions_that_evaluate_takes(tmp_path, capsys, shuffle):
    drawn = [] if shuffle is None else ["--shuffle", str(shuffle)]
    file = tmp_path / "first.sqlite"
    args = ["--dataset", "mini:videos=12", "--split", "test", "--out", str(file), "--limit", "12"]
    assert main([*args, *drawn]) == 0
    assert "12 of 12 first clips" in capsys.readouterr().out
    result = lv.evaluate(
        "scripted:answer", dataset="mini:videos=12", split="test", limit=12, shuffle=shuffle,
        recording="replay", recording_file=str(file), vision="none", out=str(tmp_path / "run"),
    )  # fmt: skip
    assert (result.summary["n_finished"], result.summary["n_failed"]) == (12, 0)
    assert result.summary["n_videos"] == 12


@pytest.mark.parametrize(
    "more",
    [["--grounding", "none"], ["--grounding", "oracle"], ["--concurrency", "0"], ["--limit", "0"]],
)
def test_bad_options_are_one_line(tmp_path, capsys, more):
    assert build(tmp_path, *more) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_is_no_cache_is_named(tmp_path, capsys):
    (tmp_path / "cache.json").write_text("[1]")
    assert build(tmp_path, "--from-cache", str(tmp_path / "cache.json")) == 1
    assert "expected a grounding cache" in capsys.readouterr().err
