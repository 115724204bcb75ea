"""Runs a server until it is stopped, then ends it within a time limit."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from longvideo_env.errors import InputError, MissingExtraError

GRACE_S = 1.0
"""Seconds that requests in flight get to finish after the server is stopped."""

END_S = 4.0
"""Seconds after which the process ends anyway, because a tool's thread cannot be interrupted."""

_SPARE_CONNECTIONS = 256


def serve(
    app: web.Application, host: str, port: int, *, most: int, ready: Callable[[str], None]
) -> None:
    """Serve an application until SIGTERM or Ctrl-C.

    Args:
        app: The application.
        host: The address to bind to.
        port: The port; 0 takes a free one.
        most: Maximum number of long-lived connections. A few more are accepted for short requests.
        ready: Called with the server's URL.

    Raises:
        SpecError: The address cannot be bound.
        MissingExtraError: uvloop is not installed.
    """
    most += _SPARE_CONNECTIONS
    _allow_files(most + 64)
    run = _runner()
    run(_serve(app, host, port, most, ready))


async def _serve(
    app: web.Application, host: str, port: int, most: int, ready: Callable[[str], None]
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def end(*_: object) -> None:
        # Python's own signal handlers also run while a tool blocks the loop.
        timer = threading.Timer(END_S, os._exit, (0,))
        timer.daemon = True
        timer.start()
        loop.call_soon_threadsafe(stop.set)

    earlier = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE_S)
    await runner.setup()
    try:
        listening = await _listen(runner, host, port, most)
        ready(f"http://{_shown(host)}:{listening.sockets[0].getsockname()[1]}")
        await stop.wait()
        listening.close()
    finally:
        await runner.cleanup()
        for number, handler in earlier.items():
            signal.signal(number, handler)


async def _listen(runner: web.AppRunner, host: str, port: int, most: int) -> asyncio.Server:
    server = runner.server
    assert server is not None

    def connect() -> asyncio.BaseProtocol:
        return _Refuse() if len(server.connections) >= most else server()

    try:
        return await asyncio.get_running_loop().create_server(connect, host, port, backlog=1024)
    except OSError as error:
        raise InputError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}. Fix: stop the "
            "process that listens there, or choose another --port; 0 takes a free one."
        ) from error


class _Refuse(asyncio.Protocol):
    """Closes connections above the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    if sys.platform == "win32":
        return asyncio.run
    try:
        import uvloop
    except ImportError as error:
        raise MissingExtraError("uvloop", "serve") from error
    return uvloop.run


def _allow_files(n: int) -> None:
    """Raise this process's limit of open files to its number of connections, if possible."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n if hard == resource.RLIM_INFINITY else min(n, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
