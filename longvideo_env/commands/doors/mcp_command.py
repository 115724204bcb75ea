"""Serve the game's tools for a dataset's videos to any MCP client.

    longvideo-env mcp --dataset data/films --split val
    longvideo-env mcp --dataset mini --http --port 8765

Without --http, the client starts this command and talks to it over standard input and output. With
--http, the server listens on 127.0.0.1. Another --host needs a token in LONGVIDEO_MCP_TOKEN. Then
every request must send it (`Authorization: Bearer TOKEN`). The server never sends gold answers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from longvideo_env.commands.options import OptionParser, add_fields, take_fields
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.splits import DEFAULT_SPLIT
from longvideo_env.config import EnvConfig
from longvideo_env.integrations.mcp import VideoTools, serve_http, serve_stdio

TOKEN = "LONGVIDEO_MCP_TOKEN"
_OPTIONS = ("dataset", "split", "tools", "grounding", "vision", "window", "frames_root")


def build_parser() -> OptionParser:
    """The options of the command line."""
    parser = OptionParser("longvideo-env mcp", __doc__)
    add_fields(
        parser,
        EnvConfig,
        only=(*_OPTIONS, "skip_invalid", "recording", "recording_file"),
        split=DEFAULT_SPLIT,
    )
    add = parser.add_argument
    add("--http", action="store_true", help="serve over HTTP")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=8765, help="port to listen on; 0 takes a free one")
    add("--sessions", type=int, default=64, help="most sessions at once")
    add("--idle-s", type=float, default=600.0, help="seconds until an idle session is closed")
    add("--in-flight", type=int, default=32, help="most calls at once")
    add("--tool-timeout-s", type=float, default=120.0, help="most seconds of a call")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    args = build_parser().parse_args(arguments)
    return run_command("mcp", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    config = EnvConfig.from_mapping(take_fields(EnvConfig, vars(args)))
    tools = VideoTools(config, in_flight=args.in_flight, tool_timeout_s=args.tool_timeout_s)
    if not args.http:
        asyncio.run(serve_stdio(tools))
        return
    asyncio.run(
        serve_http(
            tools,
            host=args.host,
            port=args.port,
            token=os.environ.get(TOKEN) or None,
            sessions=args.sessions,
            idle_s=args.idle_s,
            ready=lambda url: _say(f"serving at {url}"),
        )
    )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
