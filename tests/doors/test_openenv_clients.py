"""Two versions of OpenEnv's own client with our server, compared with OpenEnv's own server."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from aiohttp import ClientSession

pytestmark = pytest.mark.doors

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).with_name("clients.py")
NEWER = ROOT / ".venv-doors" / "openenv-0.10"
VERSIONS = {"0.4.1": "", "0.10.0": str(NEWER)}


def play(url: str, path: str, sessions: int, episodes: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(CLIENTS), url, str(sessions), str(episodes)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module", params=VERSIONS)
def seen(request: pytest.FixtureRequest, server: str) -> dict[str, Any]:
    found = play(server, VERSIONS[request.param], 8, 20)
    assert found["version"] == request.param
    return found


def test_eight_sessions_of_twenty_episodes_equal_gym_make(seen: dict[str, Any]) -> None:
    from clients import TURNS

    env = gym.make("longvideo_env:LongTVQA-v0", split="test", disable_env_checker=True)
    assert len(seen["played"]) == 160
    for number, episode in enumerate(seen["played"]):
        shown, _ = env.reset(seed=episode["seed"])
        texts, rewards = [shown], [None]
        for text in TURNS[number % 20 % 4 :]:
            shown, reward, *_ = env.step(text)
            texts.append(shown)
            rewards.append(reward)
        assert episode["texts"] == texts
        assert episode["rewards"] == rewards
        assert episode["done"] == [False] * (len(texts) - 1) + [True]
        assert episode["state"]["done"]
    assert len({episode["rewards"][-1] for episode in seen["played"]}) > 1


def test_an_episode_by_tools_has_the_reward_of_gym_make(seen: dict[str, Any]) -> None:
    env = gym.make("longvideo_env:LongTVQA-v0", split="test", disable_env_checker=True)
    opened, _ = env.reset(seed=5)
    looked = env.step("<search>the table</search>")[0]
    reward = env.step("<answer>a1</answer>")[1]
    assert seen["tools"] == {
        "opened": opened,
        "names": ["look", "ground", "answer"],
        "looked": looked,
        "done": True,
        "reward": reward,
    }


def test_openenv_validates_the_server(seen: dict[str, Any]) -> None:
    assert seen["valid"], seen["summary"]
    assert seen["mode"] == "simulation"


def test_a_client_with_the_token_in_its_url(start: Callable[..., Any]) -> None:
    command = (str(Path(sys.executable).parent / "longvideo-env"), "serve", "--split", "test")
    with start(*command, LONGVIDEO_SERVE_TOKEN="token-of-the-tests") as url:
        found = play(url.replace("http://", "http://me:token-of-the-tests@"), "", 1, 1)
        assert len(found["played"]) == 1
        refused = subprocess.run(
            [sys.executable, str(CLIENTS), url, "1", "1"], capture_output=True, text=True
        )
        assert refused.returncode != 0
        assert "401" in refused.stderr


MESSAGES = (
    "{",
    '{"type": "dance"}',
    '{"type": "step", "data": {"words": "x"}}',
    '{"type": "reset", "data": {"seed": 1}}',
    '{"type": "state"}',
    '{"type": "step", "data": {"text": "<search>x</search>"}}',
    '{"type": "mcp", "data": {"jsonrpc": "2.0", "method": "dance", "id": 1}}',
    '{"type": "mcp", "data": {"method": "tools/list"}}',
    '{"type": "step", "data": {"text": "<answer>a1</answer>"}}',
)
REQUESTS = (
    ("get", "/health", None),
    ("get", "/schema", None),
    ("get", "/metadata", None),
    ("get", "/state", None),
    ("get", "/list_environments", None),
    ("post", "/reset", {"seed": 1}),
    ("post", "/reset", {"seed": -1}),
    ("post", "/step", {}),
    ("post", "/step", {"action": {"words": "x"}}),
    ("post", "/mcp", {}),
    ("post", "/mcp", {"jsonrpc": "2.0", "method": "dance", "id": 1}),
    ("post", "/nothing", {}),
)
FREE = {"observation", "metadata", "detail", "action", "state", "reset_observation", "properties"}
"""Keys below which the environment, or the reader of an error, decides what stands."""


def shape(value: Any) -> Any:
    """The keys and types of a reply."""
    if not isinstance(value, dict):
        return type(value).__name__
    return {k: "free" if k in FREE else shape(v) for k, v in sorted(value.items()) if k != "errors"}


async def replies(url: str) -> tuple[list[Any], list[Any]]:
    async with ClientSession(url) as http:
        answered = []
        for method, path, body in REQUESTS:
            async with http.request(method, path, json=body) as response:
                answered.append((path, response.status, shape(await response.json())))
        said = []
        async with http.ws_connect("/ws") as socket:
            for text in MESSAGES:
                await socket.send_str(text)
                reply = await socket.receive_json()
                code = reply["data"].get("code") or reply["data"].get("error", {}).get("code")
                said.append((text, reply["type"], code, shape(reply)))
        return answered, said


OURS = {"metadata", "qid", "video_id", "turns_left", "reset_observation"}
"""Keys that only our replies have: a session's id, an ending, more of a state, 0.10's schema."""


def comparable(found: list[Any]) -> list[Any]:
    def cut(body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        ours = OURS | ({"done"} if "step_count" in body else set())
        return {key: cut(value) for key, value in body.items() if key not in ours}

    return [(*reply[:-1], cut(reply[-1])) for reply in found]


def test_replies_have_the_shapes_of_create_app(server: str, start: Callable[..., Any]) -> None:
    command = (sys.executable, str(ROOT / "benchmarks" / "serve.py"), "--create-app")
    with start(*command) as theirs:
        expected = asyncio.run(replies(theirs))
    ours = asyncio.run(replies(server))
    for own, other in zip(ours, expected, strict=True):
        for mine, thine in zip(comparable(own), comparable(other), strict=True):
            assert mine == thine
