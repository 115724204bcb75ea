"""Any function from messages to text as a policy, sync or async.

With `protocol="functions"` the text is JSON (see `longvideo_env.game.protocol.functions`). A dict
with an assistant message in the OpenAI format also works. If the function has a parameter `tools`,
it gets their JSON schemas. If it has a parameter `frames`, it can see (`frames=N`): it gets a list
with the frames of each message, each with `path`, `clip_id` and `time_s`. It opens the images
itself, so `resolution` is ignored.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from agents.policies.scripted import TextPolicy
from longvideo_env.errors import PolicyError, SpecError
from longvideo_env.game.policy import Context, Reply

_THREADS = 64
"""Maximum number of concurrent sync functions."""


class FunctionPolicy(TextPolicy):
    """A function `messages -> str`, optionally with `tools` or `frames`. Messages are dicts.

    A sync function runs in its own thread, so that it does not block others.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function
        call = getattr(function, "__call__", function)  # noqa: B004 - an object may be callable
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
        self._takes_tools, self._takes_frames = (takes(function, n) for n in ("tools", "frames"))
        self._threads = None if self._is_async else ThreadPoolExecutor(_THREADS, "policy")

    def see(self, resolution: int) -> None:
        """Pass frames to the function.

        Raises:
            SpecError: It has no parameter `frames`.
        """
        if not self._takes_frames:
            raise SpecError(
                "the function of this policy has no parameter `frames`, so it cannot be shown "
                "frames. Fix: add one, as in `def policy(messages, frames)`, or leave frames at 0."
            )

    async def act(self, context: Context, /) -> Reply:
        """Call the function.

        Raises:
            PolicyError: It raised, or returned something other than text.
        """
        messages: list[dict[str, Any]] = [dict(message) for message in context.messages]
        frames = [list(message.pop("frames", ())) for message in messages]
        asked = self._function
        if self._takes_frames:
            asked = partial(asked, frames=frames)
        if self._takes_tools:
            asked = partial(asked, tools=list(context.tools))
        try:
            if self._threads is None:
                text = await asked(messages)
            else:
                loop = asyncio.get_running_loop()
                text = await loop.run_in_executor(self._threads, asked, messages)
            if isinstance(text, dict) and context.tools:
                text = json.dumps(text, ensure_ascii=False)
        except Exception as error:
            raise PolicyError(f"{type(error).__name__}: {error}") from error
        if not isinstance(text, str):
            raise PolicyError(f"expected text from the function, got {text!r:.80}.")
        return Reply(text)

    async def aclose(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of that name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C
        return False
