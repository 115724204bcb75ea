"""Running coroutines from synchronous code, also inside a running event loop (a notebook)."""

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
        RuntimeError: The coroutine did suspend.
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
    """Run a coroutine to its end and return its value, whether or not a loop is running here.

    Without a running loop it is `asyncio.run`; inside one, the coroutine runs on a loop in a
    thread of its own while this thread waits.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return asyncio.run_coroutine_threadsafe(coroutine, background_loop()).result()


@lru_cache(maxsize=1)
def background_loop() -> asyncio.AbstractEventLoop:
    """The event loop, in a daemon thread, on which agents with real waits run. One a process."""
    loop = asyncio.new_event_loop()
    threading.Thread(
        target=_keep_running, args=(loop,), name="longvideo-env-loop", daemon=True
    ).start()
    atexit.register(_let_go, loop)
    return loop


def _keep_running(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until the process ends, even where a task raises one of these two.

    asyncio raises them out of the loop as well as into the task's result. Without the loop, the
    one who waits for the result would never get it.
    """
    while True:
        try:
            loop.run_forever()
            return
        except (KeyboardInterrupt, SystemExit):
            continue


def _let_go(loop: asyncio.AbstractEventLoop) -> None:
    """Close what agents hold on the loop, as `asyncio.run` does when it ends."""
    try:
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(timeout=5)
    except TimeoutError:
        return  # a connection that does not close must not keep the process alive
