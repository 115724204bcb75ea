"""Record and replay of tool calls.

A call is keyed by its content: the agent, and all that its reply can depend on. An agent that
knows better than the request what that is (which model, which prompt, which bytes) is `Keyed`;
for the others the request, the agent's spec and the texts of the video make the key.

A recording is one SQLite file in WAL mode, which several processes may use at once. `export_calls`
and `import_calls` turn it into JSON Lines and back, so that a result can be published with its
tool calls. Failed calls are never recorded.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from longvideo_env.config import RECORDING_MODES
from longvideo_env.errors import RecordingError, RecordingMissError
from longvideo_env.schema import Video
from longvideo_env.tools.tool import ToolCall, ToolReply

MODES = RECORDING_MODES[1:]
FORMAT = 1
REPORT_EVERY = 1000
"""Calls answered without asking between two lines of the log."""

log = logging.getLogger(__name__)

_BUSY_S = 60.0
"""How long a process waits for another one's write."""


@runtime_checkable
class Keyed(Protocol):
    """An agent that says itself what its reply to a request depends on."""

    def record_key(self, request: Any, /) -> Mapping[str, Any]:
        """Plain values; equal values must mean that one reply serves for both requests."""
        ...


@dataclass
class RecordingStats:
    """What became of the calls of this process.

    Attributes:
        hits: Answered from the recording.
        shared: Identical to a call under way, whose reply they got.
        misses: Not in the recording: agents were asked (in mode `replay`: refused).
    """

    hits: int = 0
    shared: int = 0
    misses: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Share of calls for which no agent was asked."""
        total = self.hits + self.shared + self.misses
        return (self.hits + self.shared) / total if total else None

    def since(self, earlier: RecordingStats) -> RecordingStats:
        """What became of the calls after an earlier count."""
        return RecordingStats(
            self.hits - earlier.hits, self.shared - earlier.shared, self.misses - earlier.misses
        )

    def record(self) -> dict[str, Any]:
        """Plain values."""
        rate = self.hit_rate
        return {**asdict(self), "hit_rate": None if rate is None else round(rate, 4)}


class _Abandoned(Exception):
    """The coroutine that asked was cancelled; whoever waited for it asks in its stead."""


class Recording:
    """One recording, open in one mode. `open_recording` gives the same one to all who ask.

    Args:
        path: The SQLite file; made where the mode allows it.
        mode: `record` asks once for each call of this process and keeps the newest reply;
            `replay` never asks; `reuse` asks for what is not there, and keeps it.

    Raises:
        RecordingError: The mode is unknown, or the file is missing or no recording.
    """

    def __init__(self, path: str | Path, mode: str) -> None:
        if mode not in MODES:
            raise RecordingError(f"expected a mode of {', '.join(MODES)}, got {mode!r}.")
        self.path = Path(path)
        self.mode = mode
        self.stats = RecordingStats()
        self._lock = threading.RLock()
        self._flights: dict[str, Future[ToolReply]] = {}
        self._fresh: set[str] = set()
        self._pid = 0
        self._database = self._connect()

    async def call(
        self, key: Mapping[str, Any], ask: Callable[[], Awaitable[ToolReply]]
    ) -> ToolReply:
        """The reply to a call: from the recording, from an equal call under way, or asked for.

        Args:
            key: What the reply depends on.
            ask: Asks the agent.

        Raises:
            RecordingMissError: In mode `replay`, there is no such call.
        """
        text = _canonical(key)
        digest = key_digest(text)
        while True:
            with self._lock:
                known = self._known(digest)
                if known is not None:
                    self.stats.hits += 1
                    self._report()
                    return known
                flight = self._flights.get(digest)
                if flight is None:
                    self.stats.misses += 1
                    if self.mode == "replay":
                        raise RecordingMissError(self._miss(key))
                    leading = self._flights[digest] = Future()
            if flight is None:
                return await self._lead(digest, text, leading, ask)
            try:
                # Shielded: a follower that is cancelled must not cancel what others wait for.
                reply = await asyncio.shield(asyncio.wrap_future(flight))
            except _Abandoned:
                continue
            self.stats.shared += 1
            self._report()
            return reply

    def put(self, key: Mapping[str, Any], reply: ToolReply, *, replace: bool = True) -> None:
        """Keep the reply to a call.

        Args:
            key: What it depends on.
            reply: The reply.
            replace: False leaves a reply that is there already.
        """
        text = _canonical(key)
        self._store(key_digest(text), text, reply, replace=replace)

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Whether the recording has a call."""
        return self._find(key_digest(_canonical(key))) is not None

    def __len__(self) -> int:
        with self._lock:
            return int(self._open().execute("SELECT count(*) FROM calls").fetchone()[0])

    async def _lead(
        self,
        digest: str,
        text: str,
        flight: Future[ToolReply],
        ask: Callable[[], Awaitable[ToolReply]],
    ) -> ToolReply:
        try:
            reply = await ask()
            # Stored first: from here on an equal call finds it, whether or not it sees the flight.
            reply = self._store(digest, text, reply, replace=self.mode == "record")
        except asyncio.CancelledError:
            flight.set_exception(_Abandoned())
            raise
        except Exception as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(reply)
            return reply
        finally:
            with self._lock:
                del self._flights[digest]

    def _report(self) -> None:
        stats = self.stats
        if (stats.hits + stats.shared) % REPORT_EVERY == 0:
            log.info(
                "recording %s (%s): hit rate %.3f: %d recorded before, %d shared, %d asked",
                self.path,
                self.mode,
                stats.hit_rate,
                stats.hits,
                stats.shared,
                stats.misses,
            )

    def _known(self, digest: str) -> ToolReply | None:
        if self.mode == "record" and digest not in self._fresh:
            return None
        return self._find(digest)

    def _find(self, digest: str) -> ToolReply | None:
        with self._lock:
            row = (
                self._open()
                .execute("SELECT value, details FROM calls WHERE key = ?", (digest,))
                .fetchone()
            )
        return None if row is None else _reply(row[0], json.loads(row[1]))

    def _store(self, digest: str, text: str, reply: ToolReply, *, replace: bool) -> ToolReply:
        """Keep a reply; returns the one that counts, which may be another process's."""
        verb = "REPLACE" if replace else "IGNORE"
        row = (digest, text, _value(reply), _canonical(reply.details))
        with self._lock:
            self._open().execute(f"INSERT OR {verb} INTO calls VALUES (?, ?, ?, ?)", row)
            self._fresh.add(digest)
            return self._find(digest) or reply

    def _open(self) -> sqlite3.Connection:
        if self._pid != os.getpid():  # a connection must not be carried over a fork
            self._database = self._connect()
        return self._database

    def _connect(self) -> sqlite3.Connection:
        if self.mode == "replay" and not self.path.is_file():
            raise RecordingError(
                f"expected a recording to replay, but {self.path} is not there. To mend it: make "
                "it with --recording record, or import one."
            )
        self._pid = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, database.close)
            _prepare(database, self.path)
        except (OSError, sqlite3.Error) as error:
            raise RecordingError(
                f"the recording {self.path} cannot be opened ({error}). To mend it: give another "
                "file; a recording is what --recording record or reuse has written."
            ) from error
        return database

    def _miss(self, key: Mapping[str, Any]) -> str:
        shown = json.dumps({k: v for k, v in key.items() if k != "video"}, ensure_ascii=False)
        return (
            f"{self.path} does not hold this call of {key.get('agent')!r}: {shown:.300} To mend "
            "it: --recording reuse asks for what is missing; or play what was recorded."
        )


_OPEN: weakref.WeakValueDictionary[tuple[str, str], Recording] = weakref.WeakValueDictionary()


def open_recording(path: str | Path, mode: str) -> Recording:
    """The recording of a file, one and the same for everybody in this process.

    Raises:
        RecordingError: See `Recording`.
    """
    key = (str(Path(path).resolve()), mode)
    recording = _OPEN.get(key)
    if recording is None:
        recording = _OPEN[key] = Recording(path, mode)
    return recording


def call_key(agent: object, spec: str, request: ToolCall) -> Mapping[str, Any]:
    """What the reply to a request depends on."""
    if isinstance(agent, Keyed):
        return agent.record_key(request)
    question = request.question
    record = request.record()
    record["visited"] = sorted(request.visited)  # shown in another order, it is the same set
    return {
        "agent": spec,
        **record,
        "question": question.text,
        "options": list(question.options),
        "video": video_digest(request.video),
    }


@lru_cache(maxsize=4096)
def video_digest(video: Video) -> str:
    """A digest of a video's clips and texts."""
    parts: list[str] = []
    for clip in video.clips:
        parts.append(clip.clip_id)
        for line in (*clip.subtitles, *clip.captions):
            parts += [line.text, repr(line.start_s), repr(line.end_s)]
    return blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def key_digest(text: str) -> str:
    """The key of a call under which it is stored, of its canonical JSON."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def export_calls(path: str | Path) -> Iterator[str]:
    """The calls of a recording as lines of JSON, in an order that depends on nothing else.

    Raises:
        RecordingError: The file is missing or no recording.
    """
    recording = Recording(path, "replay")
    query = "SELECT key, request, value, details FROM calls ORDER BY key"
    for key, request, value, details in recording._open().execute(query):
        call = {
            "key": key,
            "request": json.loads(request),
            "value": value,
            "details": json.loads(details),
        }
        yield _canonical(call) + "\n"


def import_calls(path: str | Path, lines: Iterator[str]) -> int:
    """Add calls that were exported to a recording. Returns how many were new.

    Raises:
        RecordingError: A line is no call, or its key does not fit its request.
    """
    recording = Recording(path, "reuse")
    before = len(recording)
    for number, line in enumerate(lines, start=1):
        try:
            call = json.loads(line)
            text = _canonical(call["request"])
            fits = key_digest(text) == call["key"]
            reply = _reply(str(call["value"]), dict(call["details"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordingError(
                f"line {number}: expected a call as `longvideo-env recording export` writes it, "
                f"got {line[:80]!r} ({type(error).__name__}: {error})."
            ) from error
        if not fits:
            raise RecordingError(
                f"line {number}: the key {call['key']!r:.60} is not that of its request: the line "
                "was changed after it was exported."
            )
        recording._store(call["key"], text, reply, replace=False)
    return len(recording) - before


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    database.execute("PRAGMA synchronous=NORMAL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        raise RecordingError(
            f"expected a recording of format {FORMAT}, but {path} has format {version}. To mend "
            "it: use the release that wrote it to export it."
        )
    if version == FORMAT:
        return  # nothing is written, so that a recording may lie where nothing can be
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS calls "
        "(key TEXT PRIMARY KEY, request TEXT NOT NULL, value TEXT NOT NULL, details TEXT NOT NULL)"
    )
    database.execute(f"PRAGMA user_version={FORMAT}")


def _value(reply: ToolReply) -> str:
    return _canonical({"text": reply.text, "view": reply.view})


def _reply(value: str, details: Mapping[str, Any]) -> ToolReply:
    kept = json.loads(value)
    return ToolReply(kept["text"], kept["view"], details)


def _canonical(value: object) -> str:
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
