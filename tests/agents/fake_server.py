"""An OpenAI-compatible server on loopback with scripted replies, in its own thread."""

import asyncio
import json
import threading
from contextlib import contextmanager

from aiohttp import web


def completion(text, finish="stop", **usage):
    counts = {"prompt_tokens": 100, "completion_tokens": 10, **usage}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return web.json_response({"choices": [choice], "usage": counts})


def error(status, message="injected", headers=None, **fields):
    body = {"error": {"message": message, **fields}}
    return web.json_response(body, status=status, headers=headers)


class FakeServer:
    """Passes each request's body to `answer(body, n)`, with n from 0. Keeps all requests."""

    def __init__(self, answer):
        self.answer = answer
        self.bodies = []
        self.headers = []
        self.in_flight = self.peak = 0
        self.port = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    async def handle(self, request):
        body = json.loads(await request.read())
        n = len(self.bodies)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            found = self.answer(body, n)
            return await found if asyncio.iscoroutine(found) else found
        finally:
            self.in_flight -= 1


@contextmanager
def running(answer):
    """A server that runs until the end of the block."""
    server = FakeServer(answer)
    loop = asyncio.new_event_loop()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start():
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = site._server.sockets[0].getsockname()[1]

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
