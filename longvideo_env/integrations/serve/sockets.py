"""WebSocket sessions: `/ws` for players, `/mcp` for tools by JSON-RPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import ValidationError

from longvideo_env.errors import LongVideoEnvError
from longvideo_env.integrations.serve import jsonrpc, wire
from longvideo_env.integrations.serve.sessions import PlayerSession, SessionLimitError, Sessions

_LOG = logging.getLogger(__name__)
_PING_S = 20.0


class Sockets:
    """The WebSocket connections of a server.

    Args:
        sessions: The server's sessions.
        places: Semaphore that limits concurrent requests.
    """

    def __init__(self, sessions: Sessions, places: asyncio.Semaphore) -> None:
        self.sessions = sessions
        self.limits = sessions.limits
        self._places = places
        self._open: set[web.WebSocketResponse] = set()

    async def play(self, request: web.Request) -> web.WebSocketResponse:
        """`/ws`: reset, step, state, mcp and close."""
        return await self._serve_socket(request, self._reply, wire.error_frame)

    async def mcp(self, request: web.Request) -> web.WebSocketResponse:
        """`/mcp`: JSON-RPC in a session for this connection."""
        return await self._serve_socket(request, self._rpc_reply, jsonrpc.error_text)

    async def close(self, _: web.Application) -> None:
        """Close all connections when the server stops."""
        closing = [
            asyncio.ensure_future(socket.close(code=WSCloseCode.GOING_AWAY, message=b"server ends"))
            for socket in self._open
        ]
        if closing:
            await asyncio.wait(closing, timeout=1.0)

    async def _serve_socket(
        self,
        request: web.Request,
        reply: Callable[[PlayerSession, str], Awaitable[str | None]],
        say: Callable[..., str],
    ) -> web.WebSocketResponse:
        """Give a connection a session and answer its messages in order."""
        socket = web.WebSocketResponse(
            # Compression costs more than it saves between two local processes.
            compress=False,
            heartbeat=_PING_S,
            max_msg_size=self.limits.max_message_kb * 1024,
        )
        await socket.prepare(request)
        named = request.query.get("session_id")
        try:
            session = self.sessions.attach(named) if named else self.sessions.open(attached=True)
        except LongVideoEnvError as error:
            full = isinstance(error, SessionLimitError)
            await socket.send_str(
                say(
                    str(error),
                    wire.CAPACITY_REACHED if full else wire.SESSION_ERROR,
                    active_sessions=len(self.sessions),
                    max_sessions=self.limits.max_sessions,
                )
            )
            await socket.close()
            return socket
        self._open.add(socket)
        try:
            await self._answer_messages(socket, session, reply, say)
        except ConnectionError:
            pass  # the client is gone
        finally:
            self._open.discard(socket)
            if named:
                self.sessions.release(session)
            else:
                self.sessions.close(session)
        return socket

    async def _answer_messages(
        self,
        socket: web.WebSocketResponse,
        session: PlayerSession,
        reply: Callable[[PlayerSession, str], Awaitable[str | None]],
        say: Callable[..., str],
    ) -> None:
        while True:
            try:
                message = await socket.receive(timeout=self.limits.idle_s)
            except asyncio.TimeoutError:
                self.sessions.counts["sessions ended idle"] += 1
                text = f"the session was idle for {self.limits.idle_s:g} s and ends."
                await socket.send_str(say(text, wire.SESSION_ERROR))
                break
            if message.type == WSMsgType.BINARY:
                self.sessions.counts["bad messages"] += 1
                text = "expected a text frame with JSON, got a binary one."
                await socket.send_str(say(text, wire.INVALID_JSON))
                continue
            if message.type != WSMsgType.TEXT:
                self.sessions.counts["bad messages"] += message.type == WSMsgType.ERROR
                break
            async with self._places:
                sent = await reply(session, message.data)
            if sent is None:
                break
            await socket.send_str(sent)
        await socket.close()

    async def _reply(self, session: PlayerSession, text: str) -> str | None:
        """The reply to a message. None closes the connection."""
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return self._refuse(f"Invalid JSON: {error}", wire.INVALID_JSON)
        if not isinstance(message, dict):
            return self._refuse("a message must be a JSON object.", wire.VALIDATION_ERROR)
        kind, data = message.get("type", ""), message.get("data", {})
        if unknown := sorted(set(message) - {"type", "data"}):
            return self._refuse(f"unknown field {unknown[0]!r:.80}", wire.VALIDATION_ERROR)
        if not isinstance(data, dict):
            return self._refuse("data must be an object.", wire.VALIDATION_ERROR)
        try:
            return await self._do(session, kind, data)
        except ValidationError as error:
            said, errors = wire.said(error), wire.problems(error)
            return self._refuse(f"Invalid message: {said}", wire.VALIDATION_ERROR, errors=errors)
        except LongVideoEnvError as error:
            return self._refuse(str(error), wire.EXECUTION_ERROR)
        except Exception as error:  # noqa: BLE001 - the boundary: the server keeps running
            _LOG.exception("a message was not answered")
            said = f"the server failed: {type(error).__name__}"
            return self._refuse(said, wire.EXECUTION_ERROR)

    async def _do(self, session: PlayerSession, kind: Any, data: dict[str, Any]) -> str | None:
        if kind == "step":
            call, text = jsonrpc.read_action(data)
            sent = await (session.step(text) if call is None else jsonrpc.act(session, call))
            return wire.frame("observation", sent)
        if kind == "reset":
            return wire.frame("observation", await session.reset(wire.ResetData(**data)))
        if kind == "state":
            return wire.frame("state", session.state())
        if kind == "mcp":
            return wire.frame("mcp", await jsonrpc.answer(self.sessions, data, session))
        if kind == "close":
            return None
        return self._refuse(f"Unknown message type: {kind!s:.80}", wire.UNKNOWN_TYPE)

    def _refuse(self, message: str, code: str, **more: Any) -> str:
        self.sessions.counts["bad messages"] += 1
        return wire.error_frame(message, code, **more)

    async def _rpc_reply(self, session: PlayerSession, text: str) -> str:
        try:
            body = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return orjson.dumps(jsonrpc.parse_error(error)).decode()
        return orjson.dumps(await jsonrpc.answer(self.sessions, body, session)).decode()
