"""Serve the game to OpenEnv clients, and to all clients with its protocol.

    longvideo-env serve --dataset mini --split test --port 8000
    LONGVIDEO_SERVE_TOKEN=... longvideo-env serve --dataset data/plus --split val --host 0.0.0.0

Needs `pip install 'longvideo-env[serve]'`. Each WebSocket (`/ws`) is a session with its own
episodes. docs/integrations.md has a client in ten lines. By default, only clients on this machine
can connect. Another --host needs a token in the variable LONGVIDEO_SERVE_TOKEN, and then clients
must send it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from longvideo_env.commands.options import OptionParser, add_fields, take_fields
from longvideo_env.commands.shared import run_command
from longvideo_env.config import EnvConfig
from longvideo_env.drivers.env import LongTVQAEnv
from longvideo_env.errors import MissingExtraError, SpecError

TOKEN = "LONGVIDEO_SERVE_TOKEN"  # the name of the variable
_LEAST_TOKEN = 16


def build_parser() -> OptionParser:
    """The options of the command line.

    Raises:
        MissingExtraError: The extra `serve` is not installed.
    """
    try:
        from longvideo_env.integrations.serve.sessions import ServerLimits
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "aiohttp", "serve") from error
    parser = OptionParser(prog="longvideo-env serve", description=__doc__, config=True)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="Address to listen on")
    add("--port", type=int, default=8000, help="Port to listen on; 0 takes a free one")
    add_fields(parser.add_argument_group("limits"), ServerLimits)
    add_fields(parser.add_argument_group("environment"), EnvConfig)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    return run_command("serve", lambda: _run(build_parser().parse_args(arguments)))


def _run(args: argparse.Namespace) -> None:
    try:
        from longvideo_env.integrations.openenv import OpenEnvServer, is_loopback
        from longvideo_env.integrations.serve.running import serve
        from longvideo_env.integrations.serve.sessions import ServerLimits
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "aiohttp", "serve") from error
    token = os.environ.get(TOKEN) or None
    if token is None and not is_loopback(args.host):
        raise SpecError(
            f"--host {args.host} needs a token, because other machines can connect. Fix: set "
            f"{TOKEN} to {_LEAST_TOKEN} characters or more, or leave --host out."
        )
    if token is not None and len(token) < _LEAST_TOKEN:
        raise SpecError(f"{TOKEN} must have {_LEAST_TOKEN} characters or more, got {len(token)}.")
    if not 0 <= args.port <= 65535:
        raise SpecError(f"--port must be 0 to 65535, got {args.port}.")
    options = take_fields(EnvConfig, vars(args))
    EnvConfig(**options).text_only("a client of the OpenEnv server")
    env = LongTVQAEnv(**options)
    limits = ServerLimits(**take_fields(ServerLimits, vars(args)))
    server = OpenEnvServer(env, limits, token)

    def say(url: str) -> None:
        asks = ", with a token" if token else ""
        dataset = env.dataset
        left_out = f", {len(dataset.skipped):,} left out as invalid" if dataset.skipped else ""
        sys.stdout.write(
            f"{dataset.name}, split {dataset.split}: {len(dataset):,} questions{left_out}\n"
            f"OpenEnv server at {url}{asks}. Ctrl-C stops it.\n"
        )
        sys.stdout.flush()

    serve(server.app, args.host, args.port, most=limits.max_sessions, ready=say)
    counts = ", ".join(f"{name}: {n:,}" for name, n in sorted(server.sessions.counts.items()) if n)
    sys.stdout.write(f"ended. {counts or 'no sessions'}\n")
