"""Runs coroutines from synchronous code, also inside a running event loop (a notebook)."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")


def run_immediate(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, without an event loop.

    Raises:
        RuntimeError: The coroutine suspended.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise RuntimeError(
        "the coroutine suspended, but it was declared immediate. Fix: set "
        "`immediate = False` on the agent."
    )


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its value, with or without a running event loop.

    Without a running loop it uses `asyncio.run`. Otherwise the coroutine runs on a loop in another
    thread while this thread waits.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return asyncio.run_coroutine_threadsafe(coroutine, background_loop()).result()


@lru_cache(maxsize=1)
def background_loop() -> asyncio.AbstractEventLoop:
    """The process's event loop in a daemon thread, for agents that really wait."""
    loop = asyncio.new_event_loop()
    threading.Thread(
        target=_keep_running, args=(loop,), name="longvideo-env-loop", daemon=True
    ).start()
    atexit.register(_let_go, loop)
    return loop


def _keep_running(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until the process ends, even if a task raises KeyboardInterrupt or SystemExit.

    asyncio raises these out of the loop and also sets them as the task's result. If the loop
    stopped, the waiting thread would never get the result.
    """
    while True:
        try:
            loop.run_forever()
            return
        except (KeyboardInterrupt, SystemExit):
            continue


def _let_go(loop: asyncio.AbstractEventLoop) -> None:
    """Close async generators and similar on the loop, as `asyncio.run` does at its end."""
    try:
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(timeout=5)
    except TimeoutError:
        return  # a hanging connection must not keep the process alive
