"""The examples of docs/integrations-serve.md work, with openenv, verifiers and a local model."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from loopback import TURNS, model

pytestmark = pytest.mark.doors

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "integrations-serve.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def traces(folder: Path, name: str) -> list[dict[str, Any]]:
    (file,) = folder.glob(f"outputs/{name}--*/traces.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str], list[Any]]]:
    """The folder in which the page was run, its output, and the requests to the model."""
    folder = tmp_path_factory.mktemp("page")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "MY_API_KEY": "key"}
    printed, serving = [], None
    with model() as (url, bodies):
        try:
            for language, text in BLOCK.findall(PAGE):
                code = text.replace(":8000", f":{port}").replace("--port 8000", f"--port {port}")
                code = code.replace("http://127.0.0.1:9000/v1", url)
                if language in ("python", "toml"):
                    name = code.splitlines()[0].removeprefix("# ")
                    (folder / name).write_text(code, encoding="utf-8")
                if language == "toml":
                    continue
                command = [sys.executable, name] if language == "python" else code.split()
                if "serve" in command:
                    serving = subprocess.Popen(command, cwd=folder, env=environ)
                    wait(f"http://127.0.0.1:{port}/health")
                    continue
                done = subprocess.run(
                    command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300
                )
                assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
                printed.append(done.stdout)
            yield folder, printed, bodies
        finally:
            if serving is not None:
                serving.terminate()
                assert serving.wait(timeout=5) == 0


def wait(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(url)


def test_the_page_runs(ran: tuple[Path, list[str], list[Any]]) -> None:
    _, printed, _ = ran
    assert len(printed) == 4
    assert "True" in printed[0]
    assert "['look', 'ground', 'answer']" in printed[1]


def by_gym(
    options: dict[str, Any], qid: object, seed: int = 0
) -> tuple[float, dict[str, Any], list[str]]:
    env = gym.make("longvideo_env:LongTVQA-v0", disable_env_checker=True, **options)
    env.reset(seed=seed, options={"qid": qid})
    shown = [env.unwrapped.observation.text]
    for text in TURNS:
        observed, reward, terminated, truncated, info = env.step(text)
        if terminated or truncated:
            return float(reward), info, shown
        shown.append(observed)
    raise AssertionError("the episode did not end")


def test_the_openenv_taskset_has_our_rewards(ran: tuple[Path, list[str], list[Any]]) -> None:
    folder, _, _ = ran
    options = {"dataset": "mini", "split": "test"}
    tasks = gym.make("longvideo_env:LongTVQA-v0", **options).unwrapped.dataset.tasks
    qids = [tasks[0].qid, tasks[1].qid, "mini_s02e0001_q2"]
    found = traces(folder, "openenv")
    assert [trace["errors"] for trace in all_of(found)] == [[]] * 3
    rewards = {task_index(trace): reward_of(trace, "openenv_reward") for trace in all_of(found)}
    assert rewards == pytest.approx({i: by_gym(options, qid)[0] for i, qid in enumerate(qids)})


def test_the_native_taskset_has_our_rewards_and_metrics(
    ran: tuple[Path, list[str], list[Any]],
) -> None:
    folder, _, bodies = ran
    options = {
        "dataset": "mini",
        "split": "test",
        "max_turns": 4,
        "reward": "paper,grounding=0.3",
    }
    found = all_of(traces(folder, "longtvqa"))
    assert len(found) == 3
    for trace in found:
        qid = trace["task"]["data"]["qid"]
        reward, info, shown = by_gym(options, qid)
        assert reward_of(trace, "longtvqa") == pytest.approx(reward)
        metrics = trace["metrics"]
        assert metrics["correct"] == float(info["is_success"])
        assert metrics["grounded"] == float(info["grounded"])
        assert metrics["turns"] == 3
        terms = {f"term_{name}": value for name, value in info["reward_terms"].items()}
        assert {name: metrics[name] for name in terms} == pytest.approx(terms)
        asked = [body["messages"] for body in bodies if len(body["messages"]) == 6]
        assert {one["role"] for messages in asked for one in messages[::2][:1]} == {"system"}
        assert shown in [[one["content"] for one in messages[1::2]] for messages in asked]


@pytest.mark.parametrize("seed", [3, 1_000_003])
def test_the_native_taskset_has_the_reward_of_gym_over_seeds(seed: int, tmp_path: Path) -> None:
    """The seed decides the order of the shuffled options, and so whether a1 is right."""
    drawn = {"shuffle_options": True, "max_turns": 3}
    with model() as (url, _):
        (tmp_path / "run.toml").write_text(
            f"""
model = "my-model"
select.limit = 8
[client]
base_url = "{url}"
api_key_var = "MY_API_KEY"
[env.taskset]
id = "longtvqa"
dataset = "mini"
split = "test"
seed = {seed}
options = {{ shuffle_options = true, max_turns = 3 }}
""",
            encoding="utf-8",
        )
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [BIN / "vf-eval", "@", "run.toml", "--no-push"],
            cwd=tmp_path, env=os.environ | {"PATH": path, "MY_API_KEY": "key"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = all_of(traces(tmp_path, "longtvqa"))
    assert len(found) == 8
    env = {"dataset": "mini", "split": "test", **drawn}
    ours = [by_gym(env, trace["task"]["data"]["qid"], seed)[0] for trace in found]
    assert [reward_of(trace, "longtvqa") for trace in found] == pytest.approx(ours)
    assert len(set(ours)) > 1


def all_of(episodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trace for episode in episodes for trace in episode.get("traces", [episode])]


def task_index(trace: dict[str, Any]) -> int:
    return int(trace["task"]["data"]["idx"])


def reward_of(trace: dict[str, Any], name: str) -> float:
    reward = trace["rewards"][name]
    return float(reward["score"] if isinstance(reward, dict) else reward)
