"""Failed episodes: count reasons, stop a run that only fails, and check endpoints before a run."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from longvideo_env import EnvConfig
from longvideo_env.errors import LongVideoEnvError
from longvideo_env.ids import parse_clip_id
from longvideo_env.records.trajectory import Trajectory

SHOWN = 3
"""Number of reasons under the table."""

_CONNECT_S = 3.0
_WORD = re.compile(r"[\w-]+")


def reason_of(error: str) -> str:
    """A failure's message without clip ids and numbers, which differ between episodes."""

    def plain(match: re.Match[str]) -> str:
        word = match[0]
        return "CLIP" if parse_clip_id(word) else re.sub(r"\d{2,}", "N", word)

    return _WORD.sub(plain, error)


def top_reasons(errors: Mapping[str, int], most: int = SHOWN) -> list[tuple[str, int]]:
    """The most common reasons, each with one of its messages and its count."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for error, n in errors.items():
        reason = reason_of(error)
        counts[reason] += n
        examples.setdefault(reason, error)
    return [(examples[reason], n) for reason, n in counts.most_common(most)]


class FailureWatch:
    """Counts failures: all of them, and those in a row with the same reason.

    Args:
        limit: Number of failures in a row that stops the run. 0 is no limit.
        share: The run stops above this share of `asked`. None is no limit.
        asked: Number of requested episodes.
    """

    def __init__(self, limit: int, share: float | None = None, asked: int = 0) -> None:
        self._limit, self._share, self._asked = limit, share, asked
        self._reason = ""
        self._n = self._all = 0

    def see(self, trajectory: Trajectory) -> str | None:
        """Count an episode. Returns why the run should stop, or None."""
        if trajectory.status != "failed":
            self._n = 0
            return None
        error = trajectory.error or "no reason was given"
        reason = reason_of(error)
        self._n = self._n + 1 if reason == self._reason else 1
        self._reason = reason
        self._all += 1
        if self._limit and self._n >= self._limit:
            return f"{self._n:,} episodes in a row failed for the same reason: {error}"
        if self._share is not None and self._all > self._share * self._asked:
            return (
                f"{self._all:,} of {self._asked:,} episodes have failed, more than --fail-above "
                f"{self._share:g}. The last one: {error}"
            )
        return None


def silent_endpoints(spec: str, config: EnvConfig) -> list[str]:
    """A line for each local endpoint without a server."""
    if config.recording not in ("off", "record"):
        return []
    specs = (spec, config.grounding, config.vision, config.judge)
    urls = {_address(spec.removeprefix("openai:")) for spec in specs if spec.startswith("openai:")}
    return [
        f"no server answers at {url} ({problem}). Fix: start the server, or name another endpoint."
        for url in sorted(urls - {None}, key=str)
        if (problem := _unreachable(str(url)))
    ]


def _address(argument: str) -> str | None:
    from agents.api.agent import parse_api_spec  # its client is an extra
    from agents.api.endpoints import load_endpoint

    try:
        return load_endpoint(parse_api_spec(argument).endpoint).base_url
    except LongVideoEnvError:
        return None  # building the agent reports the error


def _unreachable(url: str) -> str | None:
    """Why a local address does not answer. Other addresses may be behind a proxy."""
    parts = urlsplit(url)
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), timeout=_CONNECT_S):
            return None
    except OSError as error:
        return error.strerror or str(error)


def failure_lines(summary: Mapping[str, Any]) -> list[str]:
    """The lines under a run's table about failed episodes and an early stop."""
    lines = []
    if summary["n_failed"]:
        lines.append(
            f"{summary['policy']}: {summary['n_failed']:,} of {summary['n_finished']:,} episodes "
            "failed:"
        )
        lines += [f"  {n:,} x {error}" for error, n in top_reasons(summary["errors"])]
    if summary.get("stopped"):
        head = "  " if lines else f"{summary['policy']}: "
        lines.append(f"{head}stopped: {summary['stopped']}.")
        lines.append(
            "  Finished episodes are kept. Fix: remove the cause, or raise the budget, and give "
            "the same command, which resumes."
        )
    return lines


def blind_mark(summary: Mapping[str, Any]) -> str:
    """A mark for agents without any input, such as frames. Empty if all have some."""
    roles = [gap["role"] for gap in summary.get("blind", ()) if gap["without"] == gap["of"]]
    return f"blind {' and '.join(roles)}" if roles else ""


def stopped_mark(summary: Mapping[str, Any]) -> str:
    """A mark for a run that was stopped early. Empty for others."""
    if not summary.get("stopped"):
        return ""
    asked = f" of {summary['n_asked']:,}" if "n_asked" in summary else ""
    return f"stopped at {summary['n_finished']:,}{asked} episodes"
