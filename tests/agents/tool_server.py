"""The loopback model of shared/tools/mock_openai.py with function calls, streamed or not."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from aiohttp import web

FILE = Path(__file__).parents[2].parent / "shared" / "tools" / "mock_openai.py"
PIECE = 7
"""Characters of a streamed fragment."""


def load_mock():
    """The module. Skips the test if it is not next to the checkout."""
    if not FILE.is_file():
        pytest.skip("needs shared/tools/mock_openai.py beside the checkout, which is not there")
    spec = importlib.util.spec_from_file_location("mock_openai", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name, call_id="abc", **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def said(*calls, content=None, **more):
    message = {"role": "assistant", "content": content, **more}
    return message | ({"tool_calls": list(calls)} if calls else {})


def master(mock):
    """Plays like the mock's master, with calls: look, ground, look, answer."""

    def reply(body):
        assert [tool["function"]["name"] for tool in body["tools"]] == ["look", "ground", "answer"]
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        text, _ = mock.flatten(body)
        question = re.search(r"question: *(.*)", text, re.IGNORECASE)[1].strip()
        script = [
            call("look", f"call-{turn}", query="What is on the table, and who is there?"),
            call("ground", f"call-{turn}", query="another scene"),
            call("look", f"call-{turn}", query="Who holds the mug?"),
            call("answer", f"call-{turn}", answer=f"a{mock.digest(question, 5)}"),
        ]
        return said(script[min(turn, 3)], reasoning_content="Let me think.")

    return reply


def check_conversation(body):
    """The errors of an OpenAI server: calls without a result, and results without a call."""
    waiting = []
    for message in body["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting, message
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, f"no result for {waiting}"
        for one in message.get("tool_calls", ()):
            assert isinstance(json.loads(one["function"]["arguments"]), dict)
            waiting.append(one["id"])
    assert not waiting


def respond(body, message, finish=None):
    """A message as a response: in one piece, or streamed if requested."""
    finish = finish or ("tool_calls" if message.get("tool_calls") else "stop")
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    if not body.get("stream"):
        choice = {"index": 0, "finish_reason": finish, "message": message}
        return web.json_response({"choices": [choice], "usage": usage})
    return web.Response(body=stream(message, finish, usage), content_type="text/event-stream")


def stream(message, finish, usage):
    """The server-sent events of a message, in small fragments."""
    deltas = [{"role": "assistant", "content": ""}]
    for key in ("reasoning_content", "content"):
        deltas += [{key: part} for part in parts(message.get(key) or "")]
    for index, one in enumerate(message.get("tool_calls", ())):
        function = {"name": one["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{**one, "index": index, "function": function}]})
        for part in parts(one["function"]["arguments"]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": finish}])
    base = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    events = [{**base, "choices": one} for one in choices] + [
        {**base, "choices": [], "usage": usage}
    ]
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def parts(text):
    return [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
