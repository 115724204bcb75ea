"""Runs a server until it is stopped, and then ends it in time."""

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
"""How long requests in flight may go on once the server is stopped."""

END_S = 4.0
"""After this it ends, whatever still hangs: a tool's thread cannot be interrupted."""

_SPARE_CONNECTIONS = 256


def serve(
    app: web.Application, host: str, port: int, *, most: int, ready: Callable[[str], None]
) -> None:
    """Serve an application until SIGTERM or Ctrl-C.

    Args:
        app: The application.
        host: The address to bind to.
        port: The port; 0 takes a free one.
        most: Connections that are kept open for long; some more are let in for short requests.
        ready: Is called with the server's URL.

    Raises:
        SpecError: The address cannot be bound to.
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
        # By signal handlers of Python's own, which also run while a tool keeps the loop busy.
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
            f"cannot listen at {host}, port {port}: {error.strerror or error}. Fix: stop what "
            "listens there, or choose another --port; 0 takes a free one."
        ) from error


class _Refuse(asyncio.Protocol):
    """Closes a connection that is one too many."""

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
    """Let this process open as many files as it may have connections, if the system does."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n if hard == resource.RLIM_INFINITY else min(n, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
