"""Why episodes failed: reasons counted, a run that only fails stopped, and what is seen before."""

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
"""Reasons that stand under the table."""

_CONNECT_S = 3.0
_WORD = re.compile(r"[\w-]+")


def reason_of(error: str) -> str:
    """A failure's message without what differs from episode to episode: clip ids and numbers."""

    def plain(match: re.Match[str]) -> str:
        word = match[0]
        return "CLIP" if parse_clip_id(word) else re.sub(r"\d{2,}", "N", word)

    return _WORD.sub(plain, error)


def top_reasons(errors: Mapping[str, int], most: int = SHOWN) -> list[tuple[str, int]]:
    """The commonest reasons, with one message of each as it was given, and how often it came."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for error, n in errors.items():
        reason = reason_of(error)
        counts[reason] += n
        examples.setdefault(reason, error)
    return [(examples[reason], n) for reason, n in counts.most_common(most)]


class FailureWatch:
    """Counts failures: those in a row that have one reason, and all of them.

    Args:
        limit: So many in a row stop the run; 0 never does.
        share: More than this share of `asked` stops it; None never does.
        asked: Episodes asked for.
    """

    def __init__(self, limit: int, share: float | None = None, asked: int = 0) -> None:
        self._limit, self._share, self._asked = limit, share, asked
        self._reason = ""
        self._n = self._all = 0

    def see(self, trajectory: Trajectory) -> str | None:
        """Take note of an episode. Returns why the run should stop, or None."""
        if trajectory.status != "failed":
            self._n = 0
            return None
        error = trajectory.error or "no reason was given"
        reason = reason_of(error)
        self._n = self._n + 1 if reason == self._reason else 1
        self._reason = reason
        self._all += 1
        if self._limit and self._n >= self._limit:
            return f"{self._n:,} episodes in a row failed for one reason: {error}"
        if self._share is not None and self._all > self._share * self._asked:
            return (
                f"{self._all:,} of {self._asked:,} episodes have failed, more than --fail-above "
                f"{self._share:g}; the last one: {error}"
            )
        return None


def silent_endpoints(spec: str, config: EnvConfig) -> list[str]:
    """The endpoints of this machine where nothing listens, a line each."""
    if config.recording not in ("off", "record"):
        return []
    specs = (spec, config.grounding, config.vision, config.judge)
    urls = {_address(spec.removeprefix("openai:")) for spec in specs if spec.startswith("openai:")}
    return [
        f"nothing listens at {url} ({problem}). Fix: start the server, or name another endpoint."
        for url in sorted(urls - {None}, key=str)
        if (problem := _unreachable(str(url)))
    ]


def _address(argument: str) -> str | None:
    from agents.api.agent import parse_api_spec  # its client is an extra
    from agents.api.endpoints import load_endpoint

    try:
        return load_endpoint(parse_api_spec(argument).endpoint).base_url
    except LongVideoEnvError:
        return None  # building the agent says what is wrong


def _unreachable(url: str) -> str | None:
    """Why this machine's own address does not answer; others may be behind a proxy."""
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
    """What stands under the table of a run in which episodes failed."""
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
            "  What was finished is kept. Fix: remove the cause, or raise the budget; the command "
            "resumes."
        )
    return lines


def blind_mark(summary: Mapping[str, Any]) -> str:
    """What a reader of an accuracy must know where an agent had nothing to go on; else empty."""
    roles = [gap["role"] for gap in summary.get("blind", ()) if gap["without"] == gap["of"]]
    return f"blind {' and '.join(roles)}" if roles else ""


def stopped_mark(summary: Mapping[str, Any]) -> str:
    """What a reader of an accuracy must know of a run that was stopped early; else empty."""
    if not summary.get("stopped"):
        return ""
    asked = f" of {summary['n_asked']:,}" if "n_asked" in summary else ""
    return f"stopped at {summary['n_finished']:,}{asked} episodes"
