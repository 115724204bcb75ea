"""Retries of requests (`tenacity`).

Waits grow exponentially with jitter, and `Retry-After` is honoured. All attempts and waits must fit
into one total time. Waiting for a free place within our own limits does not count.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

_T = TypeVar("_T")


class TryAgain(Exception):
    """A temporary failure.

    Args:
        problem: What failed.
        retry_after_s: Seconds that the server asks to wait.
        down: Whether the endpoint may be down. False if it only asks to wait.
    """

    def __init__(
        self, problem: str, retry_after_s: float | None = None, *, down: bool = True
    ) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s
        self.down = down


@dataclass
class TimeLeft:
    """The remaining part of a call's total time.

    Attributes:
        left_s: Seconds left.
    """

    left_s: float

    async def allow(self, work: Awaitable[_T]) -> _T:
        """Wait for something within the remaining time, and subtract the time used.

        Raises:
            asyncio.TimeoutError: The time ran out.
        """
        start = time.perf_counter()
        try:
            return await asyncio.wait_for(work, self.left_s)
        finally:
            self.left_s -= time.perf_counter() - start


def retries(attempts: int, time_left: TimeLeft) -> AsyncRetrying:
    """Calls a coroutine function again as long as it raises `TryAgain`.

    Args:
        attempts: Maximum number of calls.
        time_left: Waits are subtracted. If a wait would exceed it, the last `TryAgain` is raised
            instead.
    """
    from tenacity import AsyncRetrying, retry_if_exception_type

    def enough(state: RetryCallState) -> bool:
        return state.attempt_number >= attempts or state.upcoming_sleep >= time_left.left_s

    def take_off(state: RetryCallState) -> None:
        time_left.left_s -= state.upcoming_sleep

    return AsyncRetrying(
        stop=enough,
        wait=_wait,
        before_sleep=take_off,
        retry=retry_if_exception_type(TryAgain),
        reraise=True,
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `Retry-After` or `Retry-After-Ms`, or None."""
    milliseconds = headers.get("retry-after-ms")
    text = headers.get("retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        if text is None:
            return None
        if text.strip().replace(".", "", 1).isdigit():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _wait(state: Any) -> float:
    from tenacity import wait_random, wait_random_exponential

    error = state.outcome.exception()
    if error.retry_after_s is not None:
        return float(error.retry_after_s + wait_random(0, 0.25)(state))
    return float(wait_random_exponential(multiplier=0.5, max=30)(state))
