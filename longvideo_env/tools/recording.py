"""Record and replay of tool calls.

A call is keyed by its content (`longvideo_env.tools.keys`).

A recording is an SQLite file in WAL mode. Several processes may use it at once. `export_calls` and
`import_calls` convert it to JSON Lines and back, so a result can be published with its tool calls.
Failed calls are not recorded.
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
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.config import RECORDING_MODES
from longvideo_env.errors import RecordingError, RecordingMissError
from longvideo_env.records.files import ESCAPED, storage_error
from longvideo_env.tools.tool import ToolReply

MODES = RECORDING_MODES[1:]
FORMAT = 2
"""Version of the format. In version 1 every key contained the seed."""

Asked: TypeAlias = tuple[ToolReply, bool]
"""A reply, and whether the agent read the seed."""

REPORT_EVERY = 1000
"""Number of answered calls between two log lines."""

log = logging.getLogger(__name__)

_BUSY_S = 60.0
"""Seconds to wait for another process's write."""


@dataclass
class RecordingStats:
    """Counts of this process's calls.

    Attributes:
        hits: Calls answered from the recording.
        shared: Calls that got the reply of an identical unfinished call.
        asked: Calls that were not in the recording and were made.
        not_recorded: Calls that were not in the recording and were refused (mode `replay`).
    """

    hits: int = 0
    shared: int = 0
    asked: int = 0
    not_recorded: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Share of calls answered without running an agent."""
        total = self.hits + self.shared + self.asked + self.not_recorded
        return (self.hits + self.shared) / total if total else None

    def since(self, earlier: RecordingStats) -> RecordingStats:
        """The counts since an earlier count."""
        now, then = asdict(self), asdict(earlier)
        return RecordingStats(**{name: now[name] - then[name] for name in now})

    def record(self) -> dict[str, Any]:
        """Plain values."""
        rate = self.hit_rate
        return {**asdict(self), "hit_rate": None if rate is None else round(rate, 4)}

    def __str__(self) -> str:
        """The counts in words, without zeros."""
        names = {
            "hits": "recorded before",
            "shared": "shared with an unfinished call",
            "asked": "asked",
            "not_recorded": "not recorded",
        }
        counts = {name: count for name, count in asdict(self).items() if count}
        return ", ".join(f"{count:,} {names[name]}" for name, count in counts.items()) or "no calls"


class _Abandoned(Exception):
    """The coroutine that made the call was cancelled. A waiting coroutine makes it instead."""


class _SeedCounts:
    """Marker under a call's seedless key: the agent read the seed."""


class Recording:
    """A recording, open in one mode. `open_recording` returns a shared object.

    Args:
        path: The SQLite file. It is created if the mode allows it.
        mode: `record` makes each call of this process once and stores the newest reply. `replay`
            makes no calls. `reuse` makes missing calls and stores them.

    Raises:
        RecordingError: The mode is unknown, or the file is missing or not a recording.
    """

    def __init__(self, path: str | Path, mode: str) -> None:
        if mode not in MODES:
            raise RecordingError(f"expected one of the modes {', '.join(MODES)}, got {mode!r}.")
        self.path = Path(path)
        self.mode = mode
        self.stats = RecordingStats()
        self.policy_stats = RecordingStats()
        self._lock = threading.RLock()
        self._flights: dict[str, Future[tuple[ToolReply, str]]] = {}
        self._fresh: set[str] = set()
        self._pid = 0
        self._database = self._connect()

    async def call(
        self,
        key: Mapping[str, Any],
        ask: Callable[[], Awaitable[Asked]],
        *,
        seed: int | None = None,
        stats: RecordingStats | None = None,
    ) -> ToolReply:
        """The reply to a call: recorded, shared with an equal unfinished call, or new.

        Args:
            key: The key of the call, without the seed.
            ask: Makes the call. Returns the reply and whether the agent read the seed.
            seed: The call's seed. It becomes part of the key if the agent reads it.
            stats: Counter for the call; by default `self.stats`.

        Raises:
            RecordingMissError: In mode `replay`, the call is not recorded.
        """
        stats = self.stats if stats is None else stats
        plain, seeded = _canonical(key), _canonical({**key, "seed": seed})
        while True:
            with self._lock:
                text, known = self._look_up(plain, seeded)
                if known is not None:
                    stats.hits += 1
                    self._report(stats)
                    return known
                flight = self._flights.get(text)
                if flight is None:
                    if self.mode == "replay":
                        stats.not_recorded += 1
                        raise RecordingMissError(self._miss(key))
                    stats.asked += 1
                    leading = self._flights[text] = Future()
            if flight is None:
                own = self._lead(text, plain, seeded, leading, ask)
                del leading  # see `_lead`
                return await own
            try:
                # Shielded: cancelling one waiting coroutine must not cancel the call for the
                # others.
                reply, theirs = await asyncio.shield(asyncio.wrap_future(flight))
            except _Abandoned:
                continue
            if theirs in (plain, seeded):  # otherwise the agent used another seed
                stats.shared += 1
                self._report(stats)
                return reply

    def put(self, key: Mapping[str, Any], reply: ToolReply, *, replace: bool = True) -> None:
        """Store the reply to a call.

        Args:
            key: The call's key.
            reply: The reply.
            replace: False keeps an existing reply.
        """
        self._store(_canonical(key), reply, replace=replace)

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Whether the recording has a call, with any seed."""
        return self._find(_canonical(key)) is not None

    def __len__(self) -> int:
        query = "SELECT count(*) FROM calls WHERE value IS NOT NULL"
        with self._lock:
            return int(self._open().execute(query).fetchone()[0])

    async def _lead(
        self,
        text: str,
        plain: str,
        seeded: str,
        flight: Future[tuple[ToolReply, str]],
        ask: Callable[[], Awaitable[Asked]],
    ) -> ToolReply:
        try:
            reply, used_seed = await ask()
            # Stored first, so that an equal call finds the reply even after this entry is removed.
            replace = self.mode == "record"
            kept_as = seeded if used_seed or text == seeded else plain
            stored = self._store(kept_as, reply, replace=replace) or reply
            if kept_as == seeded:
                self._store(plain, None, replace=replace)
        except asyncio.CancelledError:
            flight.set_exception(_Abandoned())
            raise
        except Exception as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result((stored, kept_as))
            return stored
        finally:
            with self._lock:
                del self._flights[text]
            del flight  # otherwise the error's traceback would keep the recording open

    def _report(self, stats: RecordingStats) -> None:
        if (stats.hits + stats.shared) % REPORT_EVERY == 0:
            said = "recording %s (%s): hit rate %.3f: %s"
            log.info(said, self.path, self.mode, stats.hit_rate, stats)

    def _look_up(self, plain: str, seeded: str) -> tuple[str, ToolReply | None]:
        """The key under which a call is stored, and its reply if known."""
        for text in (plain, seeded):
            if self.mode == "record" and text not in self._fresh:
                return text, None
            found = self._find(text)
            if not isinstance(found, _SeedCounts):
                return text, found
        return seeded, None

    def _find(self, text: str) -> ToolReply | _SeedCounts | None:
        query = "SELECT value, details FROM calls WHERE key = ?"
        with self._lock:
            row = self._open().execute(query, (key_digest(text),)).fetchone()
        if row is None:
            return None
        return _SeedCounts() if row[0] is None else _reply(row[0], json.loads(row[1]))

    def _store(self, text: str, reply: ToolReply | None, *, replace: bool) -> ToolReply | None:
        """Store a reply, or None as the seed marker. Returns what another process stored first."""
        with self._lock:
            self._insert(key_digest(text), text, reply, "REPLACE" if replace else "IGNORE")
            self._fresh.add(text)
            found = self._find(text)
        return None if isinstance(found, _SeedCounts) else found

    def _insert(self, key: str, text: str, reply: ToolReply | None, verb: str) -> None:
        value, details = (None, {}) if reply is None else (_canonical(reply.kept()), reply.details)
        row = (key, text, value, _canonical(details))
        with self._lock:
            try:
                self._open().execute(f"INSERT OR {verb} INTO calls VALUES (?, ?, ?, ?)", row)
            except sqlite3.Error as error:
                raise storage_error(self.path, OSError(str(error))) from error

    def _open(self) -> sqlite3.Connection:
        if self._pid != os.getpid():  # a connection must not be used after a fork
            self._database = self._connect()
        return self._database

    def _connect(self) -> sqlite3.Connection:
        if self.mode == "replay" and not self.path.is_file():
            raise RecordingError(
                f"the recording {self.path} does not exist. Fix: make it with --recording record, "
                "or import one."
            )
        self._pid = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, database.close)
            _prepare(database, self.path)
        except OSError as error:
            raise storage_error(self.path, error) from error
        except sqlite3.Error as error:
            raise RecordingError(
                f"the recording {self.path} cannot be opened ({error}). Fix: pass a file that "
                "--recording record or reuse has written."
            ) from error
        return database

    def _miss(self, key: Mapping[str, Any]) -> str:
        shown = json.dumps({k: v for k, v in key.items() if k != "video"}, ensure_ascii=False)
        return (
            f"{self.path} does not hold this call of {key.get('agent')!r}: {shown:.300} Fix: use "
            "--recording reuse, which makes missing calls; or play what was recorded."
        )


_OPEN: weakref.WeakValueDictionary[tuple[str, str], Recording] = weakref.WeakValueDictionary()


def open_recording(path: str | Path, mode: str) -> Recording:
    """The recording of a file. Shared within this process.

    Raises:
        RecordingError: See `Recording`.
    """
    key = (str(Path(path).resolve()), mode)
    recording = _OPEN.get(key)
    if recording is None:
        recording = _OPEN[key] = Recording(path, mode)
    return recording


def key_digest(text: str) -> str:
    """Hash of a call's canonical JSON, under which it is stored."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def export_calls(path: str | Path) -> Iterator[str]:
    """The calls of a recording as lines of JSON, sorted by key.

    Raises:
        RecordingError: The file is missing or not a recording.
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
    """Add exported calls to a recording. Returns the number of new calls.

    Raises:
        RecordingError: A line is not a call, or its key does not match its request.
    """
    recording = Recording(path, "reuse")
    before = len(recording)
    for number, line in enumerate(lines, start=1):
        try:
            call = json.loads(line)
            text = _canonical(call["request"])
            # A bundle of licensed data has no requests. The key alone identifies a call.
            fits = call["request"] is None or key_digest(text) == call["key"]
            key = str(call["key"])
            details = dict(call["details"])
            reply = None if call["value"] is None else _reply(str(call["value"]), details)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RecordingError(
                f"line {number}: expected a call as `longvideo-env recording export` writes it, "
                f"got {line[:80]!r} ({type(error).__name__}: {error})."
            ) from error
        if not fits:
            raise RecordingError(
                f"line {number}: the key {call['key']!r:.60} does not match its request: the line "
                "was changed after the export."
            )
        recording._insert(key, text, reply, "IGNORE")
    return len(recording) - before


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    database.execute("PRAGMA synchronous=NORMAL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        raise RecordingError(
            f"expected a recording of format {FORMAT}, but {path} has format {version}, with other "
            "keys. Fix: record into a new file, or use the release that wrote it."
        )
    if version == FORMAT:
        return  # read-only, so that a recording may be on a read-only disk
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS calls "
        "(key TEXT PRIMARY KEY, request TEXT NOT NULL, value TEXT, details TEXT NOT NULL)"
    )
    database.execute(f"PRAGMA user_version={FORMAT}")


def _reply(value: str, details: Mapping[str, Any]) -> ToolReply:
    return ToolReply.from_record({**json.loads(value), "details": details})


def _canonical(value: object) -> str:
    text = json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return text if text.isascii() else text.encode(errors=ESCAPED).decode()
