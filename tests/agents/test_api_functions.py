"""A remote master with function calls: requests and replies, streamed or not."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("openai")
pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parent))

from aiohttp import web
from fake_server import completion, error, running
from tool_server import call, check_conversation, load_mock, master, respond, said, stream

import longvideo_env
from agents.api.streamed import joined
from agents.generation.settings import GenerationSettings
from agents.policies.api_policy import ApiPolicy
from eval.rescore import main as rescore
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import PolicyError
from longvideo_env.game.game import Game
from longvideo_env.game.policy import Context

GAME = Game.from_config(EnvConfig(protocol="functions"))
ARGUMENTS = '{"query": "who?"}'


def evaluate(server, out, options="", n=3, **more):
    return longvideo_env.evaluate(
        f"openai:master@{server.url}{options}",
        dataset="embedded",
        split="train",
        limit=n,
        out=out,
        protocol="functions",
        progress=False,
        **more,
    )


@pytest.mark.parametrize("options", ["", ",stream=true"])
def test_whole_episodes(tmp_path, options):
    mock = load_mock()
    play = master(mock)

    def answer(body, n):
        if body["model"] != "master":
            return completion(mock.reply(body))
        check_conversation(body)
        return respond(body, play(body))

    with running(answer) as server:
        agents = {"vision": f"openai:vision@{server.url}"}
        result = evaluate(server, tmp_path / "run", options, 4, **agents)
    assert result.summary["n_failed"] == 0
    assert result.summary["n_finished"] == 4
    for played in result.episodes:
        assert [turn.action for turn in played.turns] == ["look", "ground", "look", "answer"]
        assert played.status == "answered"
        assert played.turns[0].usage["completion_tokens"] == 10
        assert played.turns[0].argument == "What is on the table, and who is there?"
        written = json.loads(next(s for s in played.segments if s.sampled).text)
        assert written["tool_calls"][0]["id"] == "call-0"
        assert written["reasoning_content"] == "Let me think."
    bodies = [body for body in server.bodies if body["model"] == "master"]
    assert {body["tool_choice"] for body in bodies} == {"auto"}
    assert not any("stop" in body for body in bodies)
    assert not any("reasoning_content" in m for body in bodies for m in body["messages"])
    assert {bool(body.get("stream")) for body in bodies} == {bool(options)}
    assert rescore([str(result.folder)]) == 0
    again = (result.folder / "rescored" / "episodes.jsonl").read_text(encoding="utf-8")
    assert len(again.splitlines()) == 4


def test_streamed_or_not_is_the_same_play(tmp_path):
    mock = load_mock()
    play = master(mock)
    found = []
    for options in ("", ",stream=true"):
        with running(lambda body, n: respond(body, play(body))) as server:
            result = evaluate(server, tmp_path / f"run{options}", options)
        found.append([(t.qid, t.turns, t.reward, t.segments) for t in result.episodes])
    assert found[0] == found[1]


MISTAKES = [
    (said(content="I do not know."), "no_action"),
    (said(call("look", "x", query="who?"), call("answer", "y", answer="a0")), "several_actions"),
    (said(*[call("ground", f"i{i}") for i in range(20)]), "several_actions"),
    (said(call("fly", "x")), "unknown_tool"),
    (said(call("look", "x", query=3)), "wrong_arguments"),
    (said({"id": "x", "type": "function", "function": {"name": "look", "arguments": "{"}}),
     "broken_call"),
    (said({"id": None, "type": "function", "function": {"name": "look", "arguments": ARGUMENTS}}),
     None),
    (said(call("look", "same", query="a"), call("look", "same", query="b")), "several_actions"),
]  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("message", "kind"), MISTAKES)
def test_mistakes_cost_a_turn_and_the_conversation_stays_whole(tmp_path, message, kind, streamed):
    def answer(body, n):
        check_conversation(body)
        first = not any(m["role"] == "assistant" for m in body["messages"])
        return respond(body, message if first else said(call("answer", "z", answer="a1")))

    with running(answer) as server:
        options = ",stream=true" if streamed else ""
        result = evaluate(server, tmp_path, options, 1)
    (played,) = result.episodes
    assert played.error is None
    assert [turn.malformed for turn in played.turns] == [kind, None]
    assert played.choice == 1


def act(server, options="", **settings):
    task = load_dataset("embedded", "train").tasks[0]
    messages = [
        {"role": "user", "content": "Question"},
        {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [call("x")]},
        {"role": "tool", "content": "seen", "tool_call_id": "abc", "name": "x"},
    ]
    context = Context(task.question, GAME, messages, [], [], 2, seed=3)
    policy = ApiPolicy(f"m@{server.url}{options}", GenerationSettings(**settings))
    return asyncio.run(policy.act(context))


def test_options_of_the_spec():
    with running(lambda body, n: respond(body, said(call("ground")))) as server:
        act(server, ",tool_choice=required,think=keep", temperature=0.5)
    (body,) = server.bodies
    assert body["tool_choice"] == "required"
    assert body["messages"][1]["reasoning_content"] == "Hm."
    assert body["messages"][2] == {"role": "tool", "content": "seen", "tool_call_id": "abc"}
    assert (body["temperature"], body["seed"]) == (0.5, 3)


def test_strict_schemas():
    with running(lambda body, n: respond(body, said(call("ground", query=None)))) as server:
        reply = act(server, ",strict=true")
    functions = [tool["function"] for tool in server.bodies[0]["tools"]]
    assert all(function["strict"] for function in functions)
    for parameters in (function["parameters"] for function in functions):
        assert parameters["required"] == list(parameters["properties"])
        assert parameters["additionalProperties"] is False
    optional = functions[1]["parameters"]["properties"]["query"]
    assert [kind["type"] for kind in optional["anyOf"]] == ["string", "null"]
    assert GAME.protocol.parse(reply.text, 5).outcome.name == "ground"
    assert "strict" not in GAME.schemas(5)[0]["function"], "what all share was changed"


def test_a_server_that_takes_no_tools_fails_the_episode():
    refused = error(400, "unknown parameter tools", param="tools")
    with running(lambda body, n: refused) as server, pytest.raises(PolicyError, match="tools"):
        act(server)
    assert len(server.bodies) == 1, "without tools it would be another game"


def test_a_reply_that_was_cut_off():
    cut = {"id": "x", "type": "function", "function": {"name": "look", "arguments": '{"que'}}
    with running(lambda body, n: respond(body, said(cut), "length")) as server:
        reply = act(server)
    assert reply.finish == "length"
    assert GAME.protocol.parse(reply.text, 5).outcome.kind.value == "broken_call"


def test_a_stream_that_breaks_off_is_asked_for_again():
    whole = stream(said(call("look", query="who?")), "tool_calls", {})

    def answer(body, n):
        sent = whole[: len(whole) // 2] if n == 0 else whole
        return web.Response(body=sent, content_type="text/event-stream")

    with running(answer) as server:
        reply = act(server, ",stream=true")
    assert len(server.bodies) == 2
    assert json.loads(reply.text)["tool_calls"][0]["function"]["arguments"] == ARGUMENTS


@pytest.mark.parametrize(
    "content",
    [
        b"data: [DONE]\n\n",
        b"data: {}\n\n",
        b"data: [1]\n\n",
        b'data: {"error": {"message": "overloaded"}}\n\n',
        b"data: {\n\n",
    ],
)
def test_what_is_no_stream(content):
    with pytest.raises(ValueError):  # noqa: PT011 - of several origins
        joined(content)


def test_recorded_and_replayed(tmp_path):
    mock = load_mock()
    play = master(mock)
    file = str(tmp_path / "calls.sqlite")
    with running(lambda body, n: respond(body, play(body))) as server:
        first = evaluate(server, tmp_path / "a", recording="record", recording_file=file)
        asked = len(server.bodies)
        again = evaluate(server, tmp_path / "b", recording="replay", recording_file=file)
        assert len(server.bodies) == asked
        tags = {"recording": "replay", "recording_file": file, "out": tmp_path / "c"}
        other = longvideo_env.evaluate(
            f"openai:master@{server.url}", dataset="embedded", split="train", limit=3,
            progress=False, **tags,
        )  # fmt: skip
    assert [t.turns for t in again.episodes] == [t.turns for t in first.episodes]
    assert other.summary["n_failed"] == 3, "what was asked for by calls is no reply by tags"
