"""Complete runs whose agents are all behind an endpoint."""

import base64
import dataclasses
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("openai")
pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))

from fake_server import completion, error, running

from agents.policies.build import build_policy
from eval.run_policy import main
from longvideo_env import EnvConfig, RolloutEngine, Task, load_dataset
from longvideo_env.sync import run_blocking
from longvideo_env.testing import SENTINEL, SENTINEL_NUMBER, sentinel_gold
from longvideo_env.tools.registry import build_toolbox

ROOT = Path(__file__).parents[2]
KEY = "sk-never-to-be-seen"
TURNS = ("<search>who?", "<request_grounding>more", "<answer>a1")


def play_among_faults(body, n):
    """Every third request fails."""
    return error(500, f"broken, and {KEY} was used") if n % 3 == 2 else play(body, n)


def play(body, n):
    """Look, ground, answer. Tools reply at once."""
    if body["model"] == "ground":
        text = body["messages"][1]["content"]
        return completion(f"<clip>{text.split('<')[1].partition('>')[0]}</clip>")
    if body["model"] == "eyes":
        return completion("A red mug.")
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    return completion(TURNS[min(turn, 2)])


@pytest.fixture
def server(tmp_path, monkeypatch):
    with running(play) as server:
        file = tmp_path / "endpoints.yaml"
        file.write_text(f"endpoints: {{fake: {{base_url: '{server.url}', api_key_env: FAKE_KEY}}}}")
        monkeypatch.setenv("LONGVIDEO_ENDPOINTS", str(file))
        monkeypatch.setenv("FAKE_KEY", KEY)
        yield server


def run(out, *more):
    return main(
        [
            "--policy", "openai:master@fake", "--grounding", "openai:ground@fake",
            "--vision", "openai:eyes@fake,frames=3", "--dataset", "embedded", "--limit", "4",
            "--out", str(out), *more,
        ]
    )  # fmt: skip


def read(out):
    (file,) = out.glob("*/summary.json")
    lines = (file.parent / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(file.read_text(encoding="utf-8")), [json.loads(line) for line in lines]


def test_nothing_is_lost_to_faults_and_no_key_is_written(server, tmp_path, caplog, capfd):
    server.answer = play_among_faults
    with caplog.at_level(logging.DEBUG):
        assert run(tmp_path / "out", "--recording", "record") == 0
    summary, episodes = read(tmp_path / "out")
    assert summary["n_failed"] == 0
    assert summary["n_answered"] == 4
    assert summary["usage"]["master"]["requests"] == 12
    assert summary["usage"]["look"]["requests"] <= 4
    look = episodes[0]["turns"][0]
    assert look["usage"]["prompt_tokens"] == 100
    assert look["result"]["details"]["n_frames"] == 3
    assert len(look["result"]["details"]["frames"]) == 3
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert not any(KEY.encode() in data for data in written)
    assert KEY not in caplog.text
    assert KEY not in "".join(capfd.readouterr())


def test_a_group_shares_its_calls_and_replays_are_equal_bytes(server, tmp_path, capsys):
    recording = ("--recording-file", str(tmp_path / "calls.sqlite"), "--samples", "8")
    assert run(tmp_path / "reuse", "--recording", "reuse", *recording) == 0
    tools = sum(body["model"] != "master" for body in server.bodies)
    without = 4 * 8 * 3
    assert tools <= without / 4
    assert "hit rate" in capsys.readouterr().out
    replays = []
    for name in ("a", "b"):
        asked = len(server.bodies)
        assert run(tmp_path / name, "--recording", "replay", *recording) == 0
        assert len(server.bodies) == asked, "the policy's replies are recorded, too"
        (file,) = (tmp_path / name).glob("*/episodes.jsonl")
        replays.append(file.read_bytes())
    assert replays[0] == replays[1]


def test_a_run_is_played_again_without_any_server(server, tmp_path, capsys):
    recording = ("--recording-file", str(tmp_path / "calls.sqlite"), "--temperature", "0.7")
    first = run(tmp_path / "first", "--recording", "record", "--samples", "2", *recording)
    assert first == 0
    server.answer = lambda body, n: error(400, "nobody is here")
    asked = len(server.bodies)
    assert run(tmp_path / "again", "--recording", "replay", "--samples", "2", *recording) == 0
    assert len(server.bodies) == asked
    (_, before), (_, after) = read(tmp_path / "first"), read(tmp_path / "again")
    for episode in (*before, *after):
        episode.pop("timings", None)
        for call in (episode["first"], *(turn["result"] for turn in episode["turns"])):
            (call.get("result") or call if call else {}).pop("latency_s", None)
    assert after == before
    capsys.readouterr()
    assert run(tmp_path / "more", "--recording", "replay", "--samples", "3", *recording) == 3
    out = capsys.readouterr().out
    assert "4 not recorded" in out
    assert " asked" not in out


def test_another_seed_and_a_second_epoch_share_the_tool_calls(server, tmp_path):
    warm = ("--grounding", "openai:ground@fake,temperature=0.9", "--recording", "reuse")
    recording = ("--recording-file", str(tmp_path / "calls.sqlite"))
    assert run(tmp_path / "a", *warm, *recording, "--samples", "8") == 0
    tools = [body["model"] for body in server.bodies if body["model"] != "master"]
    assert tools.count("ground") <= 8, "at most two a question: the first clip and one more"
    asked = len(server.bodies)
    for name, seed in (("b", "0"), ("c", "7")):
        assert run(tmp_path / name, *warm, *recording, "--seed", seed) == 0
    assert all(body["model"] == "master" for body in server.bodies[asked:])


def test_boxes_mark_everything_as_leaky(server, tmp_path, capsys):
    assert run(tmp_path / "out", "--unsafe-boxes", "--recording", "reuse") == 0
    summary, episodes = read(tmp_path / "out")
    assert summary["leaky"] is True
    assert all(episode["leaky"] for episode in episodes)
    assert "(leaky)" in capsys.readouterr().out
    (config,) = (tmp_path / "out").glob("*/config.json")
    assert json.loads(config.read_text(encoding="utf-8"))["leaky"] is True
    assert run(tmp_path / "out") == 1  # another run: its episodes are not mixed with these


def test_no_box_is_sent_without_the_flag(server, tmp_path):
    assert run(tmp_path / "out") == 0
    sent = json.dumps(server.bodies)
    assert "Boxes in these frames" not in sent


@pytest.mark.slow
def test_killed_at_any_moment_the_run_ends_as_if_undisturbed(server, tmp_path):
    out = tmp_path / "killed"
    command = [
        sys.executable, str(ROOT / "eval" / "run_policy.py"),
        "--policy", "openai:master@fake", "--grounding", "openai:ground@fake",
        "--vision", "openai:eyes@fake,frames=3", "--dataset", "embedded",
        "--concurrency", "2",
    ]  # fmt: skip
    for pause_s in (1.5, 2.0, 2.5):
        process = subprocess.Popen(
            [*command, "--out", str(out)], env=os.environ, stderr=subprocess.DEVNULL
        )
        time.sleep(pause_s)
        process.kill()
        process.wait()
    for folder in (out, tmp_path / "calm"):
        done = subprocess.run([*command, "--out", str(folder)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    (summary, episodes), (calm_summary, calm) = read(out), read(tmp_path / "calm")
    for record in (*episodes, *calm):
        del record["timings"]
    assert episodes == calm
    timed = ("wall_s", "model_s", "tools_s")
    for name in timed:
        del summary[name], calm_summary[name]
    assert summary == calm_summary


def test_no_gold_is_sent_to_any_model(server):
    dataset = load_dataset("embedded", "val")
    marked = dataclasses.replace(
        dataset, tasks=tuple(Task(t.question, sentinel_gold(t.gold)) for t in dataset)
    )
    spec = "openai:master@fake"
    config = EnvConfig(
        split="val", grounding="openai:ground@fake", vision="openai:eyes@fake", window=2
    )
    engine = RolloutEngine(
        dataset=marked, config=config, toolbox=build_toolbox(config, marked),
        policy=build_policy(spec), policy_spec=spec,
    )  # fmt: skip

    async def play_all():
        return [t async for t in engine.play_all((task, 0) for task in marked.tasks)]

    played = run_blocking(play_all())
    assert {t.status for t in played} == {"answered"}
    sent = json.dumps(server.bodies)
    assert len(server.bodies) >= 6 * len(dataset)
    assert SENTINEL not in sent
    assert str(SENTINEL_NUMBER) not in sent


def test_a_server_that_echoes_the_key_puts_it_nowhere(server, tmp_path, caplog, capfd):
    coded = base64.b64encode(f"Bearer {KEY}".encode()).decode()
    said = f"{KEY} {coded} {quote(KEY[:-1])} X-A: {KEY[:9]}\r\nX-B: {KEY[9:]}"

    def answer(body, n):
        if body["model"] == "eyes":
            return error(401, said, code=KEY)
        if body["model"] == "ground":
            return play(body, n)
        return completion(f"<reasoning>{said}</reasoning><search>who? {said}</search>")

    server.answer = answer
    with caplog.at_level(logging.DEBUG):
        assert run(tmp_path / "out") == 3  # the look failed, with its reason
    summary, episodes = read(tmp_path / "out")
    assert summary["n_failed"] == 4
    assert all("HTTP 401: " in episode["error"] for episode in episodes)
    assert "[key]" in json.dumps(episodes)
    written = [path.read_text("utf-8") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for text in (*written, caplog.text, *capfd.readouterr()):
        for piece in (KEY[i : i + 8] for i in range(len(KEY) - 7)):
            assert piece not in text
        assert coded[8:24] not in text
