"""An OpenAI-compatible model on loopback that streams: a look, a grounding, an answer."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

TURNS = (
    "<reasoning>I must see it.</reasoning><search>What is on the table?</search>",
    "<request_grounding>another scene</request_grounding>",
    "<reasoning>Enough.</reasoning><answer>a1</answer>",
)

BODIES = web.AppKey("bodies", list)


def turn_of(messages: list[dict[str, Any]]) -> str:
    return TURNS[min(sum(m["role"] == "assistant" for m in messages), len(TURNS) - 1)]


async def complete(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    request.app[BODIES].append(body)
    text = turn_of(body["messages"])
    head = {"id": "loopback", "created": 0, "model": body["model"]}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    if not body.get("stream"):
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return web.json_response(
            head | {"object": "chat.completion", "choices": [choice], "usage": usage}
        )
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": text[:10]}, None),
        ({"content": text[10:]}, None),
        ({}, "stop"),
    ]
    chunk = head | {"object": "chat.completion.chunk"}
    for delta, finish in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        sent = json.dumps(chunk | {"choices": [choice]})
        await response.write(f"data: {sent}\n\n".encode())
    sent = json.dumps(chunk | {"choices": [], "usage": usage})
    await response.write(f"data: {sent}\n\ndata: [DONE]\n\n".encode())
    return response


@contextmanager
def model() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The server's URL, and the requests that it got."""
    bodies: list[dict[str, Any]] = []
    loop = asyncio.new_event_loop()
    app = web.Application(client_max_size=1 << 26)
    app[BODIES] = bodies
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    server = loop.run_until_complete(loop.create_server(runner.server, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", bodies
    finally:
        server.close()
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
