"""A circuit breaker: when an endpoint is down, calls fail at once instead of waiting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from longvideo_env.errors import EndpointDownError

log = logging.getLogger(__name__)


class Circuit:
    """Counts consecutive failures. After enough of them over enough time it opens and warns once.

    While it is open, calls fail at once. Every `probe_every_s` seconds one call is sent; if it
    succeeds, the circuit closes. Both count and time are required, because hundreds of requests
    fail together when a server restarts, and their retries then succeed.

    Args:
        name: The endpoint's name, for messages.
        failures: Consecutive failures after which it may open.
        after_s: Seconds without a success after which it may open.
        probe_every_s: Seconds between probes.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        name: str,
        failures: int,
        after_s: float,
        probe_every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._limit = failures
        self._after_s = after_s
        self._probe_every_s = probe_every_s
        self._clock = clock
        self._failures = 0
        self._since = 0.0
        self._why = ""
        self._next_probe: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the endpoint counts as down."""
        return self._next_probe is not None

    def check(self) -> None:
        """Let a request through, or raise.

        Raises:
            EndpointDownError: The circuit is open, and no probe is due.
        """
        if self._next_probe is None:
            return
        now = self._clock()
        if now < self._next_probe:
            raise EndpointDownError(
                f"endpoint {self._name} is down: {self._failures} failures in a row over "
                f"{now - self._since:.0f} s, the last: {self._why}"
            )
        self._next_probe = now + self._probe_every_s

    def succeeded(self) -> None:
        """Record a success."""
        if self._next_probe is not None:
            log.warning("endpoint %s is available again.", self._name)
        self._failures, self._next_probe = 0, None

    def failed(self, why: str) -> None:
        """Record a failure of the endpoint."""
        now = self._clock()
        if not self._failures:
            self._since = now
        self._failures += 1
        self._why = why
        long_enough = now - self._since >= self._after_s
        if self._next_probe is None and self._failures >= self._limit and long_enough:
            self._next_probe = now + self._probe_every_s
            log.warning(
                "endpoint %s is down: %d failures in a row over %.0f s, the last: %s All calls "
                "fail for now; every %.0f s one is sent as a test.",
                self._name,
                self._failures,
                now - self._since,
                why,
                self._probe_every_s,
            )
