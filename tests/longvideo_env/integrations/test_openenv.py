import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import gymnasium as gym
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from longvideo_env.drivers.env import LongTVQAEnv
from longvideo_env.integrations.openenv import OpenEnvServer, is_loopback
from longvideo_env.integrations.serve.sessions import ServerLimits
from longvideo_env.tools.tool import ToolCall

MINI = {"dataset": "mini:videos=4", "split": "test", "reward": "paper,grounding=0.3"}
REPLIES = (
    "<reasoning>Look.</reasoning><search>who is there</search>",
    "<request_grounding>the lamp</request_grounding>",
    "<reasoning>It is this.</reasoning><answer>a0</answer>",
    "<answer>a1</answer>",
    "<answer>a3</answer>",
    "nothing of use",
    "",
    '{"json": 1}',
    "<answer>a9</answer>",
    "🎬 <search>x</search><answer>a0</answer>",
)


@pytest.fixture(scope="module")
def env() -> LongTVQAEnv:
    return LongTVQAEnv(**MINI)


Play = Callable[[ClientSession, OpenEnvServer], Awaitable[Any]]


def serving(env: LongTVQAEnv, play: Play, token: str | None = None, **limits: Any) -> Any:
    """Run a client's coroutine beside a real server."""

    async def both() -> Any:
        server = OpenEnvServer(env, ServerLimits(**limits), token)
        async with TestServer(server.app) as place, ClientSession(place.make_url("/")) as http:
            return await asyncio.wait_for(play(http, server), 30)

    return asyncio.run(both())


async def ask(socket: ClientWebSocketResponse, kind: str, data: Any = None) -> dict[str, Any]:
    message = {"type": kind} if data is None else {"type": kind, "data": data}
    await socket.send_json(message)
    reply: dict[str, Any] = await socket.receive_json()
    return reply


def by_gym(seed: int, replies: list[str]) -> list[tuple[str, float | None, bool]]:
    env = gym.make("longvideo_env:LongTVQA-v0", **MINI)
    shown, info = env.reset(seed=seed)
    seen: list[tuple[str, float | None, bool]] = [(shown, None, False)]
    for reply in replies:
        shown, reward, terminated, truncated, info = env.step(reply)
        done = terminated or truncated
        seen.append((shown, reward if not done or info["reward_valid"] else None, done))
        if done:
            break
    return seen


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**40), st.lists(st.sampled_from(REPLIES), min_size=1, max_size=6))
def test_reward_is_that_of_gym_make(env: LongTVQAEnv, seed: int, replies: list[str]) -> None:
    expected = by_gym(seed, replies)

    async def play(http: ClientSession, _: OpenEnvServer) -> list[tuple[str, float | None, bool]]:
        seen = []
        async with http.ws_connect("/ws") as socket:
            sent = (await ask(socket, "reset", {"seed": seed}))["data"]
            seen.append((sent["observation"]["text"], sent["reward"], sent["done"]))
            for reply in replies[: len(expected) - 1]:
                sent = (await ask(socket, "step", {"text": reply}))["data"]
                seen.append((sent["observation"]["text"], sent["reward"], sent["done"]))
        return seen

    assert serving(env, play) == expected


def test_gold_stands_in_the_last_reply_alone(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, _: OpenEnvServer) -> None:
        async with http.get("/schema") as response:
            schema = await response.text()
        async with http.ws_connect("/ws") as socket:
            said = [schema, json.dumps(await ask(socket, "reset", {"seed": 3}))]
            said.append(json.dumps(await ask(socket, "step", {"text": REPLIES[0]})))
            said.append(json.dumps(await ask(socket, "state")))
            last = (await ask(socket, "step", {"text": "<answer>a0</answer>"}))["data"]
            said.append(json.dumps(await ask(socket, "state")))
        assert last["done"]
        task = env.dataset.task(last["observation"]["qid"])
        assert last["metadata"]["is_success"] is (task.gold.answer == 0)
        for text in said[1:]:
            assert "is_success" not in text
            assert "reward_terms" not in text
        assert all(task.gold.clip_id not in text for text in (said[0], said[3], said[4]))
        assert set(json.loads(said[4])["data"]) == {
            *("episode_id", "step_count", "qid", "video_id", "turns_left", "done"),
        }

    serving(env, play)


def test_qid_and_seed_at_reset(env: LongTVQAEnv) -> None:
    qid = env.dataset.tasks[5].qid

    async def play(http: ClientSession, _: OpenEnvServer) -> None:
        async with http.ws_connect("/ws") as socket:
            named = await ask(socket, "reset", {"qid": qid, "episode_id": "mine"})
            assert named["data"]["observation"]["qid"] == qid
            assert (await ask(socket, "state"))["data"]["episode_id"] == "mine"
            placed = await ask(socket, "reset", {"split": "test", "index": 5})
            assert placed["data"]["observation"]["qid"] == qid
            again = [
                (await ask(socket, "reset", {"seed": 11}))["data"]["observation"] for _ in "ab"
            ]
            assert again[0] == again[1]

    serving(env, play)


MESSAGES = (
    ("{", "INVALID_JSON"),
    ("[]", "VALIDATION_ERROR"),
    ("1", "VALIDATION_ERROR"),
    ('"' + "x" * 1000 + '"', "VALIDATION_ERROR"),
    ("[" * 5000, "INVALID_JSON"),
    ('{"type": "dance"}', "UNKNOWN_TYPE"),
    ("{}", "UNKNOWN_TYPE"),
    ('{"type": ["reset"]}', "UNKNOWN_TYPE"),
    ('{"type": "step"}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": 5}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"text": null}}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"text": "x", "more": 1}}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"text": "before a reset"}}', "EXECUTION_ERROR"),
    ('{"type": "step", "data": {"type": "call_tool", "tool_name": 5}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"qid": "no such"}}', "EXECUTION_ERROR"),
    ('{"type": "reset", "data": {"seed": -1}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"seed": "\\ud800"}}', "INVALID_JSON"),
    ('{"type": "reset", "data": {"unknown": 1}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"split": "train"}}', "EXECUTION_ERROR"),
    ('{"type": "reset", "data": {"index": 100000}}', "EXECUTION_ERROR"),
    ('{"type": "reset", "more": {}}', "VALIDATION_ERROR"),
)


def test_bad_messages_are_errors_and_the_session_lives_on(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        async with http.ws_connect("/ws") as socket:
            for text, code in MESSAGES:
                await socket.send_str(text)
                reply = await socket.receive_json()
                assert (reply["type"], reply["data"]["code"]) == ("error", code), text
                assert reply["data"]["message"]
            await socket.send_bytes(b"\x00")
            assert (await socket.receive_json())["data"]["code"] == "INVALID_JSON"
            assert (await ask(socket, "reset", {"seed": 1}))["type"] == "observation"
            assert (await ask(socket, "step", {"text": "<answer>a0</answer>"}))["data"]["done"]
            after = await ask(socket, "step", {"text": "<answer>a0</answer>"})
            assert "the episode is over. Fix: reset" in after["data"]["message"]
        assert server.sessions.counts["bad messages"] == len(MESSAGES) + 2

    serving(env, play)


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text() | st.floats(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["type", "data", "text", "method", "params", "id", "seed", "x"])
                | st.text(),
                inner | st.sampled_from(["step", "reset", "state", "mcp", "call_tool"]),
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_has_a_reply(env: LongTVQAEnv, message: Any) -> None:
    async def play(http: ClientSession, _: OpenEnvServer) -> None:
        for path in ("/ws", "/mcp"):
            async with http.ws_connect(path) as socket:
                await socket.send_str(json.dumps(message))
                reply = await socket.receive()
                if message != {"type": "close"}:
                    assert reply.type == WSMsgType.TEXT
                    assert "the server failed" not in reply.data
        for path in ("/reset", "/step", "/mcp", "/longtvqa/tasks"):
            async with http.post(path, data=json.dumps(message)) as response:
                assert response.status < 500
                await response.json()

    serving(env, play)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/reset", "{", 422),
        ("/reset", "[]", 422),
        ("/reset", '{"qid": "no such"}', 400),
        ("/reset", '{"seed": "x"}', 422),
        ("/reset", '{"session_id": "no such"}', 404),
        ("/step", "{}", 422),
        ("/step", '{"action": {}}', 422),
        ("/step", '{"action": {"text": "x"}}', 409),
        ("/step", '{"action": {"text": "x"}, "session_id": "no such"}', 404),
        ("/nothing", "{}", 404),
        ("/health", "{}", 405),
        ("/reset", "x" * 3000, 413),
    ],
)
def test_bad_requests(env: LongTVQAEnv, path: str, body: str, status: int) -> None:
    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        async with http.post(path, data=body) as response:
            assert response.status == status
            assert (await response.json())["detail"]
        assert len(server.sessions) == 0
        async with http.get("/health") as response:
            assert await response.json() == {"status": "healthy"}

    serving(env, play, max_message_kb=2)


def test_an_episode_by_http_alone(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, _: OpenEnvServer) -> None:
        async with http.post("/reset", json={"seed": 4}) as response:
            opened = await response.json()
        named = {"session_id": opened["metadata"]["session_id"]}
        for text in (REPLIES[0], "<answer>a0</answer>"):
            body = {"action": {"text": text}, "timeout_s": 5.0, **named}
            async with http.post("/step", json=body) as response:
                sent = await response.json()
        assert sent["done"]
        async with http.get("/state", params=named) as response:
            assert (await response.json())["step_count"] == 2
        async with http.post("/step", json=body) as response:
            assert response.status == 409
        assert by_gym(4, [])[0][0] == opened["observation"]["text"]

    serving(env, play)


def test_tasks_are_listed_without_gold(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, _: OpenEnvServer) -> None:
        async with http.post("/longtvqa/task_range", json={"split": "test", "stop": 3}) as response:
            found = (await response.json())["tasks"]
        assert [one["qid"] for one in found] == [task.qid for task in env.dataset.tasks[:3]]
        assert set(found[0]) == {"id", "index", "qid", "video_id"}
        async with http.post("/longtvqa/num_tasks", json={"split": "test"}) as response:
            assert await response.json() == {"num_tasks": len(env.dataset)}
        async with http.post("/longtvqa/task", json={"split": "test", "index": -1}) as response:
            assert response.status == 400

    serving(env, play)


async def rpc(http: ClientSession, method: str, **params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 7}
    async with http.post("/mcp", json=body) as response:
        reply: dict[str, Any] = await response.json()
        assert reply["id"] == 7
        return reply


def test_tools_by_json_rpc(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, _: OpenEnvServer) -> None:
        tools = (await rpc(http, "tools/list"))["result"]["tools"]
        assert [tool["name"] for tool in tools] == ["look", "ground", "answer"]
        named = (await rpc(http, "openenv/session/create"))["result"]
        early = await rpc(http, "tools/call", name="look", arguments={"query": "x"}, **named)
        assert "reset first" in early["error"]["message"]
        async with http.ws_connect("/ws", params=named) as socket:
            await ask(socket, "reset", {"seed": 1})
            async with http.ws_connect("/ws", params=named) as second:
                reply = await second.receive_json()
                assert reply["data"]["code"] == "SESSION_ERROR"
            trick = {"query": "</search><answer>a0</answer>"}
            looked = await rpc(http, "tools/call", name="look", arguments=trick, **named)
            assert looked["result"]["isError"] is False
            wrong = await rpc(http, "tools/call", name="dance", arguments={}, **named)
            assert wrong["result"]["isError"] is True
            state = (await ask(socket, "state"))["data"]
            assert (state["step_count"], state["done"]) == (2, False)
            closing = await rpc(http, "openenv/session/close", **named)
            assert closing["result"]["closing"] is True
            last = await rpc(http, "tools/call", name="answer", arguments={"answer": "a0"}, **named)
            assert last["result"]["_meta"]["done"] is True
        gone = await rpc(http, "openenv/session/close", **named)
        assert "unknown session" in gone["error"]["message"]

    serving(env, play)


def test_the_answer_is_called_by_the_games_own_name() -> None:
    async def play(http: ClientSession, _: OpenEnvServer) -> None:
        tools = (await rpc(http, "tools/list"))["result"]["tools"]
        assert tools[-1]["name"] == "finish"
        named = (await rpc(http, "openenv/session/create"))["result"]
        async with http.ws_connect("/ws", params=named) as socket:
            await ask(socket, "reset", {"seed": 1})
            two = {"answer": "a0", "sure": "yes"}
            wrong = await rpc(http, "tools/call", name="finish", arguments=two, **named)
            assert "finish cannot take" in wrong["result"]["content"][0]["text"]
            last = await rpc(http, "tools/call", name="finish", arguments={"answer": "a0"}, **named)
            assert last["result"]["_meta"]["done"] is True

    with LongTVQAEnv(dataset="mini:videos=4", split="test", game="dvd") as env:
        serving(env, play)


def test_one_session_too_many(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        async with http.ws_connect("/ws") as first, http.ws_connect("/ws"):
            async with http.ws_connect("/ws") as third:
                reply = await third.receive_json()
                assert reply["data"]["code"] == "CAPACITY_REACHED"
                assert reply["data"]["max_sessions"] == 2
                assert (await third.receive()).type == WSMsgType.CLOSE
            async with http.post("/reset", json={}) as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "1"
            await first.close()
            assert (await rpc(http, "openenv/session/create"))["result"]["session_id"]
        assert server.sessions.counts["sessions refused"] == 2

    serving(env, play, max_sessions=2)


def test_an_idle_session_ends(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        named = (await rpc(http, "openenv/session/create"))["result"]
        async with http.ws_connect("/ws") as socket:
            assert len(server.sessions) == 2
            assert "idle" in (await socket.receive_json())["data"]["message"]
            assert (await socket.receive()).type == WSMsgType.CLOSE
        while len(server.sessions):
            await asyncio.sleep(0.05)
        late = await rpc(http, "tools/call", name="look", arguments={}, **named)
        assert "unknown session" in late["error"]["message"]
        assert server.sessions.counts["sessions ended idle"] == 2

    serving(env, play, idle_s=0.3)


def test_a_message_too_large_ends_its_session_alone(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        async with http.ws_connect("/ws") as other, http.ws_connect("/ws") as socket:
            await socket.send_str("x" * 5000)
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)
            assert (await ask(other, "reset", {"seed": 1}))["type"] == "observation"
            assert len(server.sessions) == 1

    serving(env, play, max_message_kb=2)


def test_a_client_that_vanishes_frees_its_session(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        for _ in range(5):
            socket = await http.ws_connect("/ws")
            await ask(socket, "reset", {"seed": 1})
            await socket.send_json({"type": "step", "data": {"text": REPLIES[0]}})
            socket._response.connection.transport.abort()
        while len(server.sessions):
            await asyncio.sleep(0.01)

    serving(env, play)


async def slow_look(request: ToolCall, query: str) -> str:
    """Looks for a long time.

    Args:
        query: what to look for
    """
    await asyncio.sleep(0.5)
    return f"nothing like {query}"


def test_requests_in_flight_are_bounded() -> None:
    env = LongTVQAEnv(dataset="mini:videos=4", split="test", tools=[slow_look])
    text = "<slow_look>x</slow_look>"

    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        async with http.ws_connect("/ws") as first, http.ws_connect("/ws") as second:
            for socket in (first, second):
                await ask(socket, "reset", {"seed": 1})
            step = {"type": "step", "data": {"text": text}}
            await asyncio.gather(*(socket.send_json(step) for socket in (first, second)))
            await asyncio.sleep(0.1)
            async with http.post("/reset", json={}) as response:
                assert response.status == 503
                assert "in flight" in (await response.json())["detail"]
            replies = [await socket.receive_json() for socket in (first, second)]
            assert all("nothing like x" in r["data"]["observation"]["text"] for r in replies)
        assert server.sessions.counts["requests refused"] == 1

    serving(env, play, max_in_flight=1)


def broken(request: ToolCall, query: str) -> str:
    """Breaks.

    Args:
        query: anything
    """
    raise RuntimeError("out of order")


def test_an_episode_whose_tool_failed_has_no_reward() -> None:
    env = LongTVQAEnv(dataset="mini:videos=4", split="test", tools=[broken])

    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        async with http.ws_connect("/ws") as socket:
            await ask(socket, "reset", {"seed": 1})
            sent = (await ask(socket, "step", {"text": "<broken>x</broken>"}))["data"]
            assert (sent["done"], sent["reward"]) == (True, None)
            assert "out of order" in sent["metadata"]["error"]
        assert server.sessions.counts["ended without reward"] == 1

    serving(env, play)


def test_token(env: LongTVQAEnv) -> None:
    token = "a-token-of-the-tests"
    basic = "Basic " + base64.b64encode(f"user:{token}".encode()).decode()

    async def play(http: ClientSession, _: OpenEnvServer) -> None:
        for wrong in ("", "Bearer ", "Bearer x", f"Token {token}", "Basic %%%", "Basic /w=="):
            headers = {"Authorization": wrong} if wrong else {}
            async with http.get("/schema", headers=headers) as response:
                assert response.status == 401
                assert token not in await response.text()
            with pytest.raises(WSServerHandshakeError):
                await http.ws_connect("/ws", headers=headers)
        async with http.get("/health") as response:
            assert response.status == 200
        for right in (f"Bearer {token}", basic):
            headers = {"Authorization": right, "Origin": "https://example.org"}
            async with http.ws_connect("/ws", headers=headers) as socket:
                assert (await ask(socket, "state"))["type"] == "state"

    serving(env, play, token)


def test_web_pages_are_kept_out_where_no_token_is_asked_for(env: LongTVQAEnv) -> None:
    async def play(http: ClientSession, server: OpenEnvServer) -> None:
        with pytest.raises(WSServerHandshakeError):
            await http.ws_connect("/ws", origin="https://example.org")
        assert len(server.sessions) == 0

    serving(env, play)


def test_twins_share_the_data_and_nothing_else(env: LongTVQAEnv) -> None:
    first, second = env.twin(), env.twin()
    assert first.dataset is second.dataset
    first.reset(seed=1)
    second.reset(seed=2)
    assert first.question.qid != second.question.qid
    assert first.step("<answer>a0</answer>")[2]
    assert not second.step(REPLIES[0])[2]


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.1.2.3")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))
