"""A circuit that opens when an endpoint is down, so that nobody waits for what will not come."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from longvideo_env.errors import EndpointDownError

log = logging.getLogger(__name__)


class Circuit:
    """Counts failures in a row. It opens after enough of them over enough time, and says so once.

    While it is open, calls fail at once; every `probe_every_s` one is let through, and its success
    closes the circuit. Both conditions must hold, because hundreds of requests in flight fail
    together when a server restarts, which their retries outlast.

    Args:
        name: The endpoint, for messages.
        failures: Failures in a row that open it.
        after_s: Seconds without a success that open it.
        probe_every_s: Seconds between probes.
        clock: Monotonic seconds.
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
        """Let a request through, or not.

        Raises:
            EndpointDownError: The circuit is open, and it is not time for a probe.
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
        """A request got its reply."""
        if self._next_probe is not None:
            log.warning("endpoint %s answers again.", self._name)
        self._failures, self._next_probe = 0, None

    def failed(self, why: str) -> None:
        """A request found the endpoint broken or gone."""
        now = self._clock()
        if not self._failures:
            self._since = now
        self._failures += 1
        self._why = why
        long_enough = now - self._since >= self._after_s
        if self._next_probe is None and self._failures >= self._limit and long_enough:
            self._next_probe = now + self._probe_every_s
            log.warning(
                "endpoint %s is down: %d failures in a row over %.0f s, the last: %s Calls fail at "
                "once until it answers one every %.0f s.",
                self._name,
                self._failures,
                now - self._since,
                why,
                self._probe_every_s,
            )
