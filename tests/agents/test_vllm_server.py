"""The client of a vLLM server, with a small server on loopback that has its protocol."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from agents.generation.chat import ChatCodec
from agents.generation.settings import GenerationSettings
from agents.generation.vllm_server import VLLMServer
from longvideo_env.config import EnvConfig
from longvideo_env.errors import PolicyError
from longvideo_env.game.game import Game

Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, {"object": "list", "data": [{"id": "m", "max_model_len": 100}]})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.reply(*answer(json.loads(body)))

            def reply(self, status: int, record: dict[str, Any]) -> None:
                body = json.dumps(record).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> ChatCodec:
    from train.tiny_model import make_tokenizer

    return ChatCodec(make_tokenizer("embedded"))


def completion(ids: list[int], finish: str = "stop") -> tuple[int, dict[str, Any]]:
    logprobs = {"tokens": ["t"] * len(ids), "token_logprobs": [-0.5] * len(ids)}
    choice = {"index": 0, "text": "", "finish_reason": finish, "token_ids": ids}
    record = {"id": "c", "object": "text_completion", "created": 0, "model": "m"}
    return 200, {**record, "choices": [{**choice, "logprobs": logprobs}]}


def ask(
    url: str, codec: ChatCodec, prompt: list[int], settings: GenerationSettings | None = None
) -> Any:
    async def go() -> Any:
        server = VLLMServer(url, codec, settings or GenerationSettings(max_turn_tokens=30))
        try:
            return await server.generate(prompt, 7)
        finally:
            await server.aclose()

    return asyncio.run(go())


def test_sends_token_ids_and_gets_them_back(serve: Any, codec: ChatCodec) -> None:
    asked: list[dict[str, Any]] = []
    reply = list(codec.encode("<answer>a0</answer>"))

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(body)
        return completion(reply)

    generated = ask(serve(answer), codec, [1, 2, 3])
    assert generated.token_ids == tuple(reply)
    assert generated.logprobs == (-0.5,) * len(reply)
    assert generated.finish == "stop"
    (body,) = asked
    assert body["stop"][-1] == "</answer>"  # vLLM refuses more than four
    assert body["prompt"] == [1, 2, 3]
    assert body["stop"] == codec.protocol.stop_strings[-4:]
    assert body["include_stop_str_in_output"]
    assert (body["seed"], body["max_tokens"]) == (7, 30)


def test_calls_of_functions_are_ended_by_the_model_alone(serve: Any) -> None:
    """Function calls have no stop string. The end-of-turn token stops them."""
    trl = pytest.importorskip("trl")
    from train.tiny_model import make_tokenizer

    tokenizer = make_tokenizer("embedded")
    folder = Path(trl.__file__).parent / "chat_templates"
    tokenizer.chat_template = (folder / "qwen3.jinja").read_text(encoding="utf-8")
    calling = ChatCodec(tokenizer)
    calling.protocol = Game.from_config(EnvConfig(protocol="functions")).protocol
    asked: list[dict[str, Any]] = []
    call = '<tool_call>\n{"name": "ground", "arguments": {}}\n</tool_call>'
    reply = list(calling.encode(f"{call}\n{call}<|im_end|>"))

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(body)
        return completion(reply)

    generated = ask(serve(answer), calling, [1], GenerationSettings(max_turn_tokens=200))
    assert list(generated.token_ids) == reply
    assert generated.finish == "end_of_turn"
    (body,) = asked
    assert not body.get("stop")
    assert calling.end_of_turn_id in body["stop_token_ids"]
    message = calling.read(generated.token_ids)
    assert message is not None
    assert len(message["tool_calls"]) == 2


def test_a_closing_tag_inside_the_reasoning_does_not_end_the_reply(
    serve: Any, codec: ChatCodec
) -> None:
    parts = [
        list(codec.encode("<reasoning>or <answer>a1</answer>")),
        list(codec.encode(" no</reasoning><answer>a0</answer>")),
    ]
    asked: list[list[int]] = []

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(body["prompt"])
        return completion(parts[len(asked) - 1])

    generated = ask(serve(answer), codec, [1], GenerationSettings(max_turn_tokens=90))
    assert list(generated.token_ids) == parts[0] + parts[1]
    assert asked == [[1], [1, *parts[0]]], "the tokens go on, none is decoded and encoded again"


def test_nothing_is_kept_behind_an_action_and_the_limit_holds(serve: Any, codec: ChatCodec) -> None:
    reply = list(codec.encode("<answer>a0</answer>"))
    behind = serve(lambda body: completion([*reply, *reply]))
    assert ask(behind, codec, [1]).token_ids == tuple(reply)
    thoughts = serve(lambda body: completion([5] * body["max_tokens"], "length"))
    generated = ask(thoughts, codec, [1], GenerationSettings(max_turn_tokens=4))
    assert (len(generated.token_ids), generated.finish) == (4, "length")
    assert ask(thoughts, codec, [1] * 100).finish == "context"


def test_a_server_that_fails_is_a_policy_error(serve: Any, codec: ChatCodec) -> None:
    bad = serve(lambda body: (400, {"error": {"message": "no such model"}}))
    with pytest.raises(PolicyError, match="no such model"):
        ask(bad, codec, [1])
    plain = serve(
        lambda body: (200, {**completion([1])[1], "choices": [{"index": 0, "text": "x"}]})
    )
    with pytest.raises(PolicyError, match="sent no token ids"):
        ask(plain, codec, [1])
    empty = serve(lambda body: completion([]))
    with pytest.raises(PolicyError, match="empty reply"):
        ask(empty, codec, [1])
