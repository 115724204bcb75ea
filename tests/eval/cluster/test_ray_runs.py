"""Runs on a real cluster of three nodes on this machine. Nodes, workers and driver are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import longvideo_env as lv
from longvideo_env import read_trajectories

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PARTS = '''
import asyncio
import os

from longvideo_env import tool


async def play(messages):
    """Asks for another clip, then takes an option that its words decide."""
    await asyncio.sleep(0.05)
    if len(messages) < 3:
        return "<request_grounding></request_grounding>"
    return f"<answer>a{len(messages[-1]['content']) % 5}</answer>"


def deadly(messages):
    """One question kills whoever plays it."""
    if any(MARK in message["content"] for message in messages):
        os._exit(1)
    return "<answer>a1</answer>"


MARK = open("mark.txt").read() if os.path.exists("mark.txt") else "there is no such question"


@tool
async def counted(request) -> str:
    """Says something, and notes that it was asked."""
    with open("asked.txt", "a") as file:
        file.write(f"{request.video.video_id}\\n")
    await asyncio.sleep(0.3)
    return f"You are in {request.video.video_id}."


def use_counted(messages):
    if len(messages) < 3:
        return "<counted></counted>"
    return "<answer>a1</answer>"
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "parts.py").write_text(PARTS)
    return tmp_path


def command(folder, out, *more, policy="parts:play"):
    args = ["--policy", policy, "--dataset", "mini", "--split", "val", "--out", str(out), *more]
    return [sys.executable, str(ROOT / "eval/run_policy.py"), *args]


STARTED = []


@pytest.fixture(autouse=True)
def _end_all():
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.communicate()


def play(folder, out, *more, policy="parts:play"):
    process = subprocess.Popen(
        command(folder, out, *more, policy=policy),
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    STARTED.append(process)
    return process


def finish(process, code=0, timeout=180):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, out + err
    return out + err


def episodes(out, name="parts-play"):
    return list(read_trajectories(out / name / "episodes.jsonl"))


def n_lines(out, name="parts-play"):
    path = out / name / "episodes.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(process, out, n):
    for _ in range(2000):
        if n_lines(out) >= n:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"{n_lines(out)} lines, not {n}")


def figures(out, name="parts-play"):
    summary = json.loads((out / name / "summary.json").read_text())
    timed = {"wall_s", "model_s", "tools_s"}
    return {key: value for key, value in summary.items() if key not in timed}


def test_killed_nodes_and_a_killed_driver_lose_nothing(folder, three_nodes):
    args = ("--samples", "3", "--concurrency", "8")
    alone, spread = folder / "alone", folder / "spread"
    whole = play(folder, alone, "--samples", "3", "--concurrency", "256")
    ray = ("--ray", three_nodes.address, "--ray-workers", "3")
    first = play(folder, spread, *args, *ray)
    wait_for(first, spread, 150)
    three_nodes.kill_one()
    wait_for(first, spread, 300)
    first.kill()
    first.wait()
    assert 300 <= n_lines(spread) < 1500
    second = play(folder, spread, *args, *ray)
    wait_for(second, spread, n_lines(spread) + 50)
    three_nodes.kill_one()
    said = finish(second)
    finish(whole)
    assert "lost" in said
    assert "kept" in said
    mine, theirs = ([t.to_json(timings=False) for t in episodes(out)] for out in (spread, alone))
    assert len(theirs) == 1500
    assert mine == theirs
    for name in ("config.json", "questions.json"):
        assert (spread / "parts-play" / name).read_bytes() == (
            alone / "parts-play" / name
        ).read_bytes()
    assert figures(spread) == figures(alone)


def test_a_question_that_kills_its_worker_three_times_has_failed(folder, three_nodes):
    target = lv.load_dataset("mini", "val").tasks[7].question
    (folder / "mark.txt").write_text(target.text)
    out = folder / "out"
    args = ("--limit", "40", "--questions", f"{target.qid}", "--ray", three_nodes.address)
    said = finish(play(folder, out, *args, "--ray-workers", "2", policy="parts:deadly"), code=3)
    (played,) = episodes(out, "parts-deadly")
    assert played.status == "failed"
    assert "3 workers were lost" in played.error
    assert "3 workers were lost" in said


def test_equal_calls_are_asked_once_over_the_cluster(folder, three_nodes):
    out = folder / "out"
    args = ("--tools", "parts:counted", "--recording", "reuse", "--samples", "6", "--limit", "30")
    ray = ("--ray", three_nodes.address, "--ray-workers", "3")
    said = finish(play(folder, out, *args, *ray, policy="parts:use_counted"))
    played = episodes(out, "parts-use_counted")
    assert len(played) == 180
    asked = (folder / "asked.txt").read_text().splitlines()
    calls = {json.dumps([t.turns[0].request, t.question, t.video_id]) for t in played}
    assert len(asked) == len(calls) == 30
    counts = figures(out, "parts-use_counted")["recording"]
    assert counts["asked"] >= 30
    assert "hit rate" in said
    # A replay without timings has the same bytes as in one process.
    lines = []
    for name, more in (("a", ray), ("b", ())):
        recording = ("--recording-file", str(out / "recording.sqlite"))
        replay = ("--recording", "replay", *recording)
        again = play(folder, folder / name, *args[:2], *args[4:], *replay, *more,
                     policy="parts:use_counted")  # fmt: skip
        finish(again)
        lines.append((folder / name / "parts-use_counted" / "episodes.jsonl").read_bytes())
    assert lines[0] == lines[1]
    assert len((folder / "asked.txt").read_text().splitlines()) == 30


def ours(session):
    """The processes and listening sockets of one of our sessions."""
    found = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def listening(pids):
    """The addresses on which the processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            target = os.readlink(link) if link.is_symlink() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(fields[1].rpartition(":")[0])
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_cluster_of_its_own_stays_on_this_machine_and_ends_with_the_run(folder, how):
    out = folder / "out"
    args = ("--concurrency", "2", "--ray", "local", "--ray-workers", "1")
    process = subprocess.Popen(
        command(folder, out, *args), cwd=folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    STARTED.append(process)
    wait_for(process, out, 20)
    there = ours(process.pid)
    assert len(there) > 4
    heard = listening(there)
    assert heard
    assert set(heard) <= LOOPBACK
    os.kill(process.pid, how)
    code = process.wait(timeout=30)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL)
    for _ in range(600):  # Ray's agents check only sometimes whether their node exists
        if not ours(process.pid):
            break
        time.sleep(0.1)
    assert ours(process.pid) == []
    assert 20 <= n_lines(out) < 500
    if how == signal.SIGINT:
        assert figures(out)["n_finished"] == n_lines(out)
        finish(play(folder, out))
        assert len(episodes(out)) == 500
