"""An OpenEnv server of the game: its HTTP routes, WebSocket sessions and MCP, on aiohttp.

    longvideo-env serve --dataset mini --split test --port 8000

    with openenv.GenericEnvClient(base_url="http://127.0.0.1:8000").sync() as env:
        result = env.reset(seed=0)
        result = env.step({"text": "<answer>a1</answer>"})

It implements OpenEnv's protocol itself, because OpenEnv's `create_app` runs each step in a thread
and validates each message several times. Here sessions share dataset and agents, and wait for tools
on one event loop. In addition, an HTTP `/reset` opens a session (`metadata.session_id`). `/step`
and `/state` may name it, so an episode can be played by HTTP alone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from longvideo_env.drivers.env import LongTVQAEnv
from longvideo_env.errors import EpisodeStateError, LongVideoEnvError, SpecError, ToolError
from longvideo_env.integrations.serve import jsonrpc, wire
from longvideo_env.integrations.serve.sessions import (
    ServerLimits,
    SessionLimitError,
    Sessions,
    UnknownSessionError,
    splits,
    tasks,
)
from longvideo_env.integrations.serve.sockets import Sockets

_LOG = logging.getLogger(__name__)
_BODY_S = 30.0
_MOST_TASKS = 1000
_STATUS: dict[type[Exception], int] = {
    SessionLimitError: 503,
    UnknownSessionError: 404,
    EpisodeStateError: 409,
    SpecError: 400,
    ToolError: 502,
}
_DESCRIPTION = "Answer multiple-choice questions about long videos, turn by turn, in text."

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether a host is only reachable from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class OpenEnvServer:
    """The application with its sessions.

    Args:
        env: The environment. Each session gets its own twin.
        limits: Limits of the server.
        token: Token that a client must send, as `Authorization: Bearer TOKEN` or as the password in
            the URL. None requires no token.

    Attributes:
        app: The aiohttp application.
        sessions: The sessions, with counts of events.
    """

    def __init__(
        self, env: LongTVQAEnv, limits: ServerLimits | None = None, token: str | None = None
    ):
        self.limits = limits or ServerLimits()
        self.sessions = Sessions(env, self.limits)
        self._token = token
        self._places = asyncio.Semaphore(self.limits.max_in_flight)
        sockets = Sockets(self.sessions, self._places)
        size = self.limits.max_message_kb * 1024
        self.app = web.Application(middlewares=[self._guard], client_max_size=size)
        self.app.cleanup_ctx.append(self._sweeping)
        self.app.on_shutdown.append(sockets.close)
        get, post = self.app.router.add_get, self.app.router.add_post
        get("/health", self._health)
        get("/metadata", self._metadata)
        get("/schema", self._schema)
        get("/openapi.json", self._openapi)
        get("/state", self._state)
        post("/reset", self._reset)
        post("/step", self._step)
        post("/mcp", self._mcp)
        get("/mcp", sockets.mcp)
        get("/ws", sockets.play)
        get("/list_environments", self._environments)
        get(f"/{wire.ENV_NAME}/splits", self._splits)
        for name in ("tasks", "num_tasks", "task", "task_range"):
            post(f"/{wire.ENV_NAME}/{name}", self._tasks)

    # HTTP

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the token, limit concurrent requests, and turn errors into replies."""
        counts = self.sessions.counts
        try:
            if request.path != "/health":
                self._check(request)
            if request.method != "POST":
                return await handler(request)
            if self._places.locked():
                counts["requests refused"] += 1
                return _problem(503, "too many requests in flight. Fix: try again.")
            async with self._places:
                return await handler(request)
        except web.HTTPException as error:
            counts["bad requests"] += 1
            return _problem(error.status, error.text or error.reason)
        except ValidationError as error:
            counts["bad requests"] += 1
            return _problem(422, wire.problems(error))
        except LongVideoEnvError as error:
            status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
            counts["bad requests"] += status < 500
            return _problem(status, str(error))
        except Exception as error:  # noqa: BLE001 - the boundary: the server keeps running
            _LOG.exception("a request was not answered")
            return _problem(500, f"the server failed: {type(error).__name__}")

    def _check(self, request: web.Request) -> None:
        if self._token is not None:
            if not _shows(request.headers.get("Authorization", ""), self._token):
                raise web.HTTPUnauthorized(
                    text="expected the server's token. Fix: send `Authorization: Bearer TOKEN`, "
                    "or use the URL http://user:TOKEN@HOST."
                )
        elif "Origin" in request.headers:
            # Web pages in a browser can reach 127.0.0.1. OpenEnv's clients send no Origin.
            raise web.HTTPForbidden(text="web pages may not use a server without a token.")

    async def _body(self, request: web.Request) -> bytes:
        try:
            return await asyncio.wait_for(request.read(), _BODY_S)
        except asyncio.TimeoutError:
            raise web.HTTPRequestTimeout(text=f"no complete body within {_BODY_S:g} s.") from None

    async def _object(self, request: web.Request) -> dict[str, Any]:
        try:
            body = orjson.loads(await self._body(request) or b"{}")
        except orjson.JSONDecodeError as error:
            raise web.HTTPUnprocessableEntity(text=f"the body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise web.HTTPUnprocessableEntity(text="the body must be a JSON object.")
        return body

    async def _health(self, _: web.Request) -> web.Response:
        return _json({"status": "healthy"})

    async def _metadata(self, _: web.Request) -> web.Response:
        return _json(
            {
                "name": wire.ENV_NAME,
                "description": _DESCRIPTION,
                "readme_content": None,
                "version": version("longvideo-env"),
                "author": None,
                "documentation_url": None,
            }
        )

    async def _schema(self, _: web.Request) -> web.Response:
        return _json(wire.schemas())

    async def _openapi(self, _: web.Request) -> web.Response:
        paths: dict[str, dict[str, Any]] = {}
        for route in self.app.router.routes():
            if route.method in ("GET", "POST") and route.resource is not None:
                done = {"responses": {"200": {"description": "done"}}}
                paths.setdefault(route.resource.canonical, {})[route.method.lower()] = done
        info = {"title": "OpenEnv Environment HTTP API", "version": "1.0.0"}
        return _json({"openapi": "3.1.0", "info": info, "paths": paths})

    async def _reset(self, request: web.Request) -> web.Response:
        body = await self._object(request)
        named = body.pop("session_id", None)
        data = wire.ResetData.model_validate(body)
        session = self.sessions.open() if named is None else self.sessions.find(named)
        try:
            sent = await session.reset(data)
        except BaseException:
            if named is None:
                self.sessions.close(session)
            raise
        return _json(sent | {"metadata": {"session_id": session.id}})

    async def _step(self, request: web.Request) -> web.Response:
        body = await self._object(request)
        if "action" not in body:
            raise web.HTTPUnprocessableEntity(text="action: Field required")
        call, text = jsonrpc.read_action(body["action"])
        if "session_id" not in body:
            raise EpisodeStateError(
                "no episode was started. Fix: POST /reset first, and send its metadata.session_id "
                "as session_id."
            )
        session = self.sessions.find(body["session_id"])
        return _json(await (session.step(text) if call is None else jsonrpc.act(session, call)))

    async def _state(self, request: web.Request) -> web.Response:
        named = request.query.get("session_id")
        if named is None:
            return _json(wire.LongTVQAState().model_dump())
        return _json(self.sessions.find(named).state())

    async def _mcp(self, request: web.Request) -> web.Response:
        try:
            body = orjson.loads(await self._body(request))
        except orjson.JSONDecodeError as error:
            return _json(jsonrpc.parse_error(error))
        return _json(await jsonrpc.answer(self.sessions, body))

    async def _environments(self, _: web.Request) -> web.Response:
        return _json([wire.ENV_NAME])

    async def _splits(self, _: web.Request) -> web.Response:
        return _json(splits(self.sessions.env))

    async def _tasks(self, request: web.Request) -> web.Response:
        """OpenEnv's four routes about tasks. They give ids only."""
        body = await self._object(request)
        env, what = self.sessions.env, request.path.rpartition("/")[2]
        n = len(env.dataset)
        if body.get("split") != env.dataset.split:
            raise SpecError(f"split must be {env.dataset.split!r}, the split of this server.")
        numbers = [body.get(name) for name in ("index", "start", "stop")]
        if not all(number is None or type(number) is int for number in numbers):
            raise SpecError("index, start and stop must be whole numbers.")
        index, start, stop = numbers
        if what == "num_tasks":
            return _json({"num_tasks": n})
        if what == "task":
            if index is None or not 0 <= index < n:
                raise SpecError(f"index must be 0 to {n - 1}, got {index}.")
            return _json({"task": tasks(env, index, index + 1)[0]})
        first, last, _step = slice(start, stop).indices(n)
        found = {"tasks": tasks(env, first, min(last, first + _MOST_TASKS))}
        return _json(found | {"env_name": wire.ENV_NAME} if what == "tasks" else found)

    # In the background

    async def _sweeping(self, _: web.Application) -> AsyncIterator[None]:
        """End idle sessions, even if no requests arrive."""

        async def sweep() -> None:
            while True:
                await asyncio.sleep(max(self.limits.idle_s / 4, 0.1))
                self.sessions.drop_idle()

        sweeping = asyncio.ensure_future(sweep())
        yield
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping


def _shows(header: str, token: str) -> bool:
    """Whether a header contains the token."""
    scheme, _, given = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.encode())


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", charset="utf-8"
    )


def _problem(status: int, detail: Any) -> web.Response:
    response = _json({"detail": detail}, status)
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response
