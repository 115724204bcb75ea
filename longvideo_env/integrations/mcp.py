"""An MCP server (Model Context Protocol) with the game's tools for a dataset's videos.

    server = make_server(VideoTools(EnvConfig(dataset="data/films", split="val")))

A client lists the videos, reads subtitles, and calls the game's agents: `ground` names a clip,
`look` describes its frames. The server has no questions, no game and no gold: questions are dropped
once the videos are loaded.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from longvideo_env.config import EnvConfig
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import MissingExtraError, SpecError
from longvideo_env.game.game import Game
from longvideo_env.schema import Clip, Question, Video, clock
from longvideo_env.timeline import length_s
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import Tool

if TYPE_CHECKING:
    from mcp.server import Server

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_LINES = 500
"""Maximum lines of subtitles in one reply. The reply says how many were left out."""

MOST_VIDEOS = 100
"""Maximum number of videos in one reply."""

_TEXT: Mapping[str, Any] = {"type": "string", "maxLength": 4000}
_VIDEO = {"video_id": {**_TEXT, "description": "id of the video, from list_videos"}}
_CLIP = {"clip_id": {**_TEXT, "description": "id of the clip; the first of the video without it"}}
_SEEN = {
    "seen": {
        "type": "array",
        "items": {"type": "string"},
        "maxItems": 2000,
        "description": "ids of clips that you have seen already: another one is named",
    }
}
_OWN: Mapping[str, Mapping[str, Any]] = {
    "list_videos": {
        "description": f"Lists the videos with their clips; {MOST_VIDEOS} at a time.",
        "properties": {
            "offset": {"type": "integer", "minimum": 0, "description": "videos to leave out first"}
        },
        "required": [],
    },
    "subtitles": {
        "description": "Gives the subtitles of a clip, or of a span of the whole video.",
        "properties": {
            **_VIDEO,
            "clip_id": {**_TEXT, "description": "id of the clip; the whole video without it"},
            "start_s": {
                "type": "number",
                "description": "first second, of the clip if one is named and else of the video",
            },
            "end_s": {"type": "number", "description": "last second, likewise"},
        },
        "required": ["video_id"],
    },
}


class _WrongCallError(Exception):
    """An invalid call. The client reads the message."""


class VideoTools:
    """The tools, without the protocol.

    Args:
        config: The environment. Dataset, split, agents, tools and window are used.
        in_flight: Maximum number of concurrent calls. Others wait.
        tool_timeout_s: Maximum seconds of a call.

    Raises:
        LongVideoEnvError: An option is invalid or would show gold, or the dataset is invalid.
    """

    def __init__(
        self, config: EnvConfig, *, in_flight: int = 32, tool_timeout_s: float = 120.0
    ) -> None:
        if config.grounding == "oracle" or config.unsafe_boxes:
            raise SpecError(
                "grounding=oracle and unsafe_boxes use the right answer, which an MCP server never "
                "gives out. Fix: leave them out."
            )
        if in_flight < 1 or tool_timeout_s <= 0:
            raise SpecError("in_flight must be at least 1, and tool_timeout_s above 0.")
        self._game = Game.from_config(config)
        dataset = load_dataset(
            config.dataset,
            config.split,
            frames_root=config.frames_root,
            skip_invalid=config.skip_invalid,
        )
        self._toolbox = replace(build_toolbox(config, dataset), timeout_s=tool_timeout_s)
        self._videos: Mapping[str, Video] = dataset.videos
        self._free = asyncio.Semaphore(in_flight)
        self._offered = {tool.name: tool for tool in self._game.offered}
        for tool in self._offered.values():
            _check_free(tool)

    def schemas(self) -> list[dict[str, Any]]:
        """Name, description and JSON schema of each tool."""
        tools = [
            (tool.name, tool.purpose, self._properties(tool), ["video_id", *tool.required])
            for tool in self._offered.values()
        ]
        own = [(n, d["description"], d["properties"], d["required"]) for n, d in _OWN.items()]
        return [
            {
                "name": name,
                "description": purpose,
                "inputSchema": {
                    "type": "object",
                    "properties": dict(properties),
                    "required": required,
                    "additionalProperties": False,
                },
            }
            for name, purpose, properties, required in [*own, *tools]
        ]

    async def call(self, name: str, values: Mapping[str, Any]) -> tuple[str, bool]:
        """The text of a call's reply, and whether the call succeeded. Never raises."""
        try:
            if name == "list_videos":
                return self._list(**_checked(values, {"offset": int})), True
            if name == "subtitles":
                kinds = {"video_id": str, "clip_id": str, "start_s": float, "end_s": float}
                return self._subtitles(**_checked(values, kinds)), True
            if name not in self._offered:
                known = ", ".join([*_OWN, *self._offered])
                raise _WrongCallError(f"there is no tool {name[:80]!r}. There are: {known}.")
            return await self._ask(self._offered[name], values), True
        except _WrongCallError as error:
            return str(error), False

    def _properties(self, tool: Tool) -> dict[str, Any]:
        where = _SEEN if tool.moves else _CLIP
        return {**_VIDEO, **where, **tool.schema.get("properties", {})}

    async def _ask(self, tool: Tool, values: Mapping[str, Any]) -> str:
        own = {name: values[name] for name in ("video_id", "clip_id", "seen") if name in values}
        given = {name: value for name, value in values.items() if name not in own}
        kinds = {"video_id": str, **({"seen": list} if tool.moves else {"clip_id": str})}
        where = _checked(own, kinds)
        video = self._video(where.get("video_id"))
        arguments = tool.check(given)
        if isinstance(arguments, str):
            raise _WrongCallError(f"{tool.name}: {arguments}.")
        clip_id = where.get("clip_id") or video.clip_ids[0]
        _clip(video, clip_id)
        seen = set(map(str, where.get("seen", ())))
        visited = tuple(c for c in video.clip_ids if c in seen)
        view = () if tool.moves else video.window(clip_id, self._game.window)
        asked = next((v for v in arguments.values() if isinstance(v, str)), "")
        question = Question("mcp", asked, (), video.video_id)
        spans = tool.asked_spans(arguments, length_s(video))
        if isinstance(spans, str):
            raise _WrongCallError(f"{tool.name}: {spans}.")
        call = tool.call(question, video, arguments, spans, view=view, visited=visited)
        if tool.refuse is not None and tool.refuse(call) is not None:
            return "There is nothing more to show of this video."
        async with self._free:
            result = await self._toolbox.call(call)
        if result.reply is None:
            raise _WrongCallError(f"{tool.name} failed: {result.error}")
        if result.reply.clip is None:
            return result.reply.text
        shown = video.window(result.reply.clip, self._game.window)
        lines = [f"{result.reply.text}\n" if result.reply.text else ""]
        return "".join(lines) + "\n".join(_read(video[clip_id]) for clip_id in shown)

    def _list(self, offset: int = 0) -> str:
        ids = list(self._videos)
        shown = ids[max(offset, 0) :][:MOST_VIDEOS]
        videos = [{"video_id": i, "clips": list(self._videos[i].clip_ids)} for i in shown]
        return json.dumps({"n_videos": len(ids), "videos": videos}, ensure_ascii=False)

    def _subtitles(
        self,
        video_id: str | None = None,
        clip_id: str | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> str:
        video = self._video(video_id)
        clips = video.clips if clip_id is None else (_clip(video, clip_id),)
        low = float("-inf") if start_s is None else start_s
        high = float("inf") if end_s is None else end_s
        whole = start_s is None and end_s is None
        lines: list[str] = []
        for clip in clips:
            if whole:
                lines += _read(clip).splitlines()
                continue
            shift = 0.0 if clip_id is not None else clip.start_s
            if shift is None:
                raise _WrongCallError("it is unknown when clips start. Fix: name a clip_id.")
            lines += _between(clip, shift, low, high)
        left = len(lines) - MOST_LINES
        more = [f"({left} more lines. Name a clip or a span.)"] if left > 0 else []
        return "\n".join([*lines[:MOST_LINES], *more]) or "(no subtitles)"

    def _video(self, video_id: str | None) -> Video:
        if video_id is None or video_id not in self._videos:
            raise _WrongCallError(f"there is no video {str(video_id)[:80]!r}. See list_videos.")
        return self._videos[video_id]


def _check_free(tool: Tool) -> None:
    taken = {"video_id", "clip_id", "seen"} & set(tool.parameters)
    if taken or tool.name in _OWN:
        raise SpecError(
            f"tool {tool.name!r} uses a name that the MCP server needs "
            f"({', '.join(taken) or tool.name}). Fix: rename it."
        )


def _checked(values: Mapping[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    for name, value in values.items():
        if name not in kinds:
            raise _WrongCallError(f"unknown argument {name[:80]!r}; there are: {', '.join(kinds)}.")
        wanted = (int, float) if kinds[name] is float else kinds[name]
        if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise _WrongCallError(f"{name} must be {kinds[name].__name__}.")
    return {name: value for name, value in values.items() if value is not None}


def _clip(video: Video, clip_id: str) -> Clip:
    if clip_id not in video:
        raise _WrongCallError(f"video {video.video_id!r} has no clip {clip_id[:80]!r}.")
    return video[clip_id]


def _read(clip: Clip) -> str:
    lines = [
        line.text if line.start_s is None else f"[{clock(line.start_s)}] {line.text}"
        for line in clip.subtitles
    ]
    return "\n".join([f"[{clip.clip_id}]", *(lines or ["(no subtitles)"])])


def _between(clip: Clip, shift: float, low: float, high: float) -> list[str]:
    """The lines of a clip in a span of seconds. Lines without a time are left out."""
    found = []
    for line in clip.subtitles:
        if line.start_s is None:
            continue
        start = line.start_s + shift
        end = start if line.end_s is None else line.end_s + shift
        if end >= low and start <= high:
            found.append(f"[{clock(start)}] {line.text}")
    return found


def make_server(tools: VideoTools) -> Server[Any]:
    """The tools as an MCP server.

    Raises:
        MissingExtraError: mcp is not installed.
    """
    try:
        import mcp_types as types
        from mcp.server import Server
    except ImportError as error:
        raise MissingExtraError("mcp", "mcp") from error

    async def on_list_tools(context: Any, params: Any) -> types.ListToolsResult:
        listed = [types.Tool.model_validate(schema) for schema in tools.schemas()]
        return types.ListToolsResult(tools=listed)

    async def on_call_tool(context: Any, params: types.CallToolRequestParams) -> Any:
        text, well = await tools.call(params.name, params.arguments or {})
        content: list[Any] = [types.TextContent(type="text", text=text)]
        return types.CallToolResult(content=content, is_error=not well)

    return Server(
        "longvideo-env",
        instructions="Look into long videos: list_videos first, then ground, look or subtitles.",
        on_list_tools=on_list_tools,
        on_call_tool=on_call_tool,
    )


def guard(app: Any, token: str | None) -> Callable[..., Any]:
    """An ASGI app that requires `Authorization: Bearer TOKEN` in every HTTP request."""
    if token is None:
        return app  # type: ignore[no-any-return]
    wanted = f"Bearer {token}".encode()

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        given = dict(scope.get("headers") or ()).get(b"authorization", b"")
        if scope["type"] == "http" and not hmac.compare_digest(given, wanted):
            head = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": head})
            await send({"type": "http.response.body", "body": b"a token is needed\n"})
            return
        await app(scope, receive, send)

    return guarded


async def serve_stdio(tools: VideoTools) -> None:
    """Serve one client over standard input and output until it closes them."""
    server = make_server(tools)
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(
    tools: VideoTools,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    sessions: int = 64,
    idle_s: float = 600.0,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve clients over HTTP until the process is stopped.

    Args:
        tools: The tools.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        token: Token that every request must send. Required unless the host is this machine.
        sessions: Maximum number of sessions.
        idle_s: Seconds after which a session without requests is closed.
        ready: Called with the URL once the server accepts requests.

    Raises:
        SpecError: The host is not this machine and there is no token, or the address is in use.
    """
    if host not in LOOPBACK and not token:
        raise SpecError(
            f"serving at {host} is open to other machines and needs a token. Fix: set "
            "LONGVIDEO_MCP_TOKEN."
        )
    server = make_server(tools)
    import uvicorn

    app = server.streamable_http_app(
        host=host,
        max_sessions=sessions,
        session_idle_timeout=idle_s,
        max_request_body_size=1 << 18,
    )
    listening = _bind(host, port)
    config = uvicorn.Config(guard(app, token), log_level="warning", limit_concurrency=sessions * 4)
    serving = uvicorn.Server(config)
    # uvicorn raises the signal again after it has stopped.
    serving.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    _stop_by_signal(serving)
    task = asyncio.ensure_future(serving.serve(sockets=[listening]))
    try:
        while not serving.started and not task.done():
            await asyncio.sleep(0.02)
        ready(f"http://{host}:{listening.getsockname()[1]}/mcp")
        await asyncio.shield(task)
    finally:
        serving.should_exit = True
        await task


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise SpecError(f"cannot listen at {host}:{port}: {error}. Fix: --port 0.") from error


def _stop_by_signal(serving: Any) -> None:
    """On Ctrl-C and SIGTERM, finish the requests in flight and stop."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
            loop.add_signal_handler(number, setattr, serving, "should_exit", True)
