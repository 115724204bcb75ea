"""MCP on an OpenEnv server: the game's tools by JSON-RPC. Each call is a turn of a session.

OpenEnv's `MCPToolClient` opens a session (`openenv/session/create`), resets it through a WebSocket
(`/ws?session_id=...`), and then calls tools. The answer is a tool, too; it is listed last.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import orjson

from longvideo_env.drivers.env import LongTVQAEnv
from longvideo_env.errors import EpisodeStateError, LongVideoEnvError
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import ANSWER, Action
from longvideo_env.integrations.calling import answer_tool
from longvideo_env.integrations.serve.sessions import PlayerSession, Sessions, UnknownSessionError
from longvideo_env.integrations.serve.wire import CallData, LongTVQAAction
from longvideo_env.tools.tool import Tool, as_tool

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
INVALID_PARAMS, SERVER_ERROR = -32602, -32000
_CODES = {EpisodeStateError: INVALID_REQUEST, UnknownSessionError: INVALID_PARAMS}


def tool_list(env: LongTVQAEnv) -> list[dict[str, Any]]:
    """The offered tools and the answer."""
    return [
        {"name": tool.name, "description": tool.purpose, "inputSchema": tool.schema}
        for tool in (*env.game.offered, _answer_tool(env.game))
    ]


@lru_cache(maxsize=64)
def _answer_tool(game: Game) -> Tool:
    return as_tool(answer_tool(game))


def as_reply(env: LongTVQAEnv, name: str, arguments: dict[str, Any]) -> tuple[str, str | None]:
    """A call as a reply of the master agent, and what is wrong with the call, or None.

    An unknown call is passed on unchanged. The game treats it as a malformed turn, by the same
    rules as text.
    """
    as_it_came = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    protocol = env.game.protocol
    safe = protocol.neutralise(as_it_came)
    if name == _answer_tool(env.game).name:
        text = arguments.get(ANSWER)
        if len(arguments) != 1 or not isinstance(text, str) or not text.strip():
            return safe, f"{name}: it takes one text, `{ANSWER}`"
        return protocol.write(Action(ANSWER, protocol.neutralise(text))), None
    tool = next((tool for tool in env.game.offered if tool.name == name), None)
    if tool is None:
        known = ", ".join(one["name"] for one in tool_list(env))
        return safe, f"unknown tool {name!r:.80}; expected one of: {known}"
    checked = tool.check(arguments)
    if isinstance(checked, str):
        return safe, f"{name}: {checked}"
    written = {
        key: protocol.neutralise(value) if isinstance(value, str) else value
        for key, value in checked.items()
    }
    return protocol.write(Action(name, None, written)), None


async def call(session: PlayerSession, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Take a turn by calling a tool. Returns an observation for OpenEnv's tool clients.

    Raises:
        EpisodeStateError: There is no episode, or it is over.
    """
    text, problem = as_reply(session.env, name, arguments)
    sent = await session.step(text)
    seen = sent["observation"]
    known = name in {one["name"] for one in tool_list(session.env)}
    kind = "invalid_args" if known else "tool_not_found"
    error = None if problem is None else {"error_type": kind, "message": problem}
    result = _result(seen["text"], seen["malformed"] is not None)
    return sent | {
        "observation": {
            "metadata": seen["metadata"],
            "tool_name": name,
            "result": result,
            "error": error,
        }
    }


async def act(session: PlayerSession, data: CallData) -> dict[str, Any]:
    """An action of OpenEnv's tool clients: `list_tools` or `call_tool`."""
    if data.type == "list_tools":
        tools = [
            {
                "name": one["name"],
                "description": one["description"],
                "input_schema": one["inputSchema"],
            }
            for one in tool_list(session.env)
        ]
        return {"observation": {"metadata": {}, "tools": tools}, "reward": None, "done": False}
    return await call(session, data.tool_name, data.arguments)


def read_action(data: Any) -> tuple[CallData | None, str]:
    """Parse an action: a call of OpenEnv's tool clients, or a reply as text.

    Raises:
        ValidationError: It is neither.
    """
    if isinstance(data, dict) and data.get("type") in ("list_tools", "call_tool"):
        return CallData.model_validate(data), ""
    return None, LongTVQAAction.model_validate(data).text


def parse_error(error: Exception) -> dict[str, Any]:
    """The response to a request that is not JSON."""
    wrong = {"code": PARSE_ERROR, "message": f"Parse error: {error}", "data": None}
    return {"jsonrpc": "2.0", "id": None, "error": wrong}


def error_text(message: str, code: str, **data: Any) -> str:
    """An error for a WebSocket that belongs to no request."""
    wrong = {"code": SERVER_ERROR, "message": message, "data": {"code": code, **data}}
    return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": wrong}).decode()


def _result(text: str, is_error: bool, meta: dict[str, Any] | None = None) -> dict[str, Any]:
    found = {"content": [{"type": "text", "text": text}], "isError": is_error, "data": text}
    return found if meta is None else found | {"_meta": meta}


class _RpcError(Exception):
    """An error response to a request."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, "data": data or None}


async def answer(
    sessions: Sessions, body: Any, held: PlayerSession | None = None
) -> dict[str, Any]:
    """The response to any JSON-RPC request.

    Args:
        sessions: The server's sessions.
        body: The request, parsed from JSON.
        held: The session of the WebSocket through which it came.
    """
    number = body.get("id") if isinstance(body, dict) else None
    number = number if isinstance(number, int | str) else None
    try:
        method, params = _checked(body)
        result = await _run(sessions, method, params, held)
    except _RpcError as error:
        return {"jsonrpc": "2.0", "id": number, "error": error.body}
    except LongVideoEnvError as error:
        code = next(
            (code for kind, code in _CODES.items() if isinstance(error, kind)), SERVER_ERROR
        )
        wrong = {"code": code, "message": str(error), "data": None}
        return {"jsonrpc": "2.0", "id": number, "error": wrong}
    return {"jsonrpc": "2.0", "id": number, "result": result}


def _checked(body: Any) -> tuple[str, dict[str, Any]]:
    """A request's method and parameters."""
    wrong = None
    if not isinstance(body, dict):
        wrong = "it is not an object"
    elif unknown := sorted(set(body) - {"jsonrpc", "method", "params", "id"}):
        wrong = f"unknown field {unknown[0]!r:.80}"
    elif body.get("jsonrpc") != "2.0":
        wrong = "jsonrpc must be '2.0'"
    elif not isinstance(body.get("method"), str):
        wrong = "method must be text"
    if wrong is not None:
        raise _RpcError(INVALID_REQUEST, f"Invalid request: {wrong}")
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise _RpcError(INVALID_REQUEST, "Invalid request: params must be an object")
    return body["method"], params


async def _run(
    sessions: Sessions, method: str, params: dict[str, Any], held: PlayerSession | None
) -> dict[str, Any]:
    if method == "openenv/session/create":
        return {"session_id": (held or sessions.open()).id}
    if method == "openenv/session/close":
        return _close(sessions, params, held)
    if method == "tools/list":
        return {"tools": tool_list(sessions.env)}
    if method != "tools/call":
        raise _RpcError(METHOD_NOT_FOUND, f"Method not found: {method:.80}")
    name, arguments = params.get("name"), params.get("arguments", {})
    if not isinstance(name, str) or not name:
        raise _RpcError(INVALID_PARAMS, "Missing 'name' in params")
    if not isinstance(arguments, dict):
        raise _RpcError(INVALID_PARAMS, "'arguments' must be an object")
    if held is None and "session_id" not in params:
        raise _RpcError(
            INVALID_PARAMS, "Missing 'session_id' in params. Fix: call openenv/session/create."
        )
    session = held or sessions.find(params["session_id"])
    sent = await call(session, name, arguments)
    result: dict[str, Any] = sent["observation"]["result"]
    return _result(
        result["data"], result["isError"], {"done": sent["done"], "reward": sent["reward"]}
    )


def _close(
    sessions: Sessions, params: dict[str, Any], held: PlayerSession | None
) -> dict[str, Any]:
    session = sessions.find(params.get("session_id"))
    if session.attached:
        if held is session:
            raise _RpcError(INVALID_REQUEST, "This session ends when its WebSocket is closed")
        session.closing = True
        return {"session_id": session.id, "closed": False, "closing": True}
    sessions.close(session)
    return {"session_id": session.id, "closed": True}
