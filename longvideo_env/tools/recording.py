"""Record and replay of tool calls.

A call is keyed by its content (`longvideo_env.tools.keys`).

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
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.config import RECORDING_MODES
from longvideo_env.errors import RecordingError, RecordingMissError
from longvideo_env.records.files import ESCAPED, storage_error
from longvideo_env.tools.tool import ToolReply

MODES = RECORDING_MODES[1:]
FORMAT = 2
"""1 had the seed in every key."""

Asked: TypeAlias = tuple[ToolReply, bool]
"""A reply, and whether the agent has read the seed."""

REPORT_EVERY = 1000
"""Calls answered without asking between two lines of the log."""

log = logging.getLogger(__name__)

_BUSY_S = 60.0
"""How long a process waits for another one's write."""


@dataclass
class RecordingStats:
    """What became of the calls of this process.

    Attributes:
        hits: Answered from the recording.
        shared: Identical to an unfinished call, whose reply they got.
        asked: Not in the recording: the agent was asked.
        not_recorded: Not in the recording, and refused: mode `replay` asks nobody.
    """

    hits: int = 0
    shared: int = 0
    asked: int = 0
    not_recorded: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Share of calls that were answered without asking an agent."""
        total = self.hits + self.shared + self.asked + self.not_recorded
        return (self.hits + self.shared) / total if total else None

    def since(self, earlier: RecordingStats) -> RecordingStats:
        """What became of the calls after an earlier count."""
        now, then = asdict(self), asdict(earlier)
        return RecordingStats(**{name: now[name] - then[name] for name in now})

    def record(self) -> dict[str, Any]:
        """Plain values."""
        rate = self.hit_rate
        return {**asdict(self), "hit_rate": None if rate is None else round(rate, 4)}

    def __str__(self) -> str:
        """The counts in words; those that are 0 are left out."""
        names = {
            "hits": "recorded before",
            "shared": "shared with an unfinished call",
            "asked": "asked",
            "not_recorded": "not recorded",
        }
        counts = {name: count for name, count in asdict(self).items() if count}
        return ", ".join(f"{count:,} {names[name]}" for name, count in counts.items()) or "no calls"


class _Abandoned(Exception):
    """The coroutine that asked was cancelled; whoever waited for it asks in its stead."""


class _SeedCounts:
    """What stands under a call's key without its seed, where the agent has read the seed."""


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
        """The reply to a call: from the recording, from an equal unfinished call, or asked for.

        Args:
            key: What the reply depends on, without the seed.
            ask: Asks the agent; says with the reply whether it has read the seed.
            seed: The call's seed. It joins the key once an agent has read it.
            stats: Where the call is counted; by default `self.stats`.

        Raises:
            RecordingMissError: In mode `replay`, there is no such call.
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
                # Shielded: a follower that is cancelled must not cancel what others wait for.
                reply, theirs = await asyncio.shield(asyncio.wrap_future(flight))
            except _Abandoned:
                continue
            if theirs in (plain, seeded):  # otherwise the agent drew with another seed than ours
                stats.shared += 1
                self._report(stats)
                return reply

    def put(self, key: Mapping[str, Any], reply: ToolReply, *, replace: bool = True) -> None:
        """Keep the reply to a call.

        Args:
            key: What it depends on.
            reply: The reply.
            replace: False leaves a reply that is there already.
        """
        self._store(_canonical(key), reply, replace=replace)

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Whether the recording has a call, with whatever seed."""
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
            # Stored first: from here on an equal call finds it, whether or not it sees the flight.
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
            del flight  # or the error in it, and its traceback's frames, keep the recording open

    def _report(self, stats: RecordingStats) -> None:
        if (stats.hits + stats.shared) % REPORT_EVERY == 0:
            said = "recording %s (%s): hit rate %.3f: %s"
            log.info(said, self.path, self.mode, stats.hit_rate, stats)

    def _look_up(self, plain: str, seeded: str) -> tuple[str, ToolReply | None]:
        """The key under which a call is to be found or kept, and its reply, if that is known."""
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
        """Keep a reply, or (None) that the seed counts; returns what another process kept first."""
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
        if self._pid != os.getpid():  # a connection must not be carried over a fork
            self._database = self._connect()
        return self._database

    def _connect(self) -> sqlite3.Connection:
        if self.mode == "replay" and not self.path.is_file():
            raise RecordingError(
                f"expected a recording to replay, but {self.path} is not there. Fix: make "
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
        except OSError as error:
            raise storage_error(self.path, error) from error
        except sqlite3.Error as error:
            raise RecordingError(
                f"the recording {self.path} cannot be opened ({error}). Fix: give another "
                "file; a recording is what --recording record or reuse has written."
            ) from error
        return database

    def _miss(self, key: Mapping[str, Any]) -> str:
        shown = json.dumps({k: v for k, v in key.items() if k != "video"}, ensure_ascii=False)
        return (
            f"{self.path} does not hold this call of {key.get('agent')!r}: {shown:.300} Fix: "
            "--recording reuse asks for what is missing; or play what was recorded."
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
            # A bundle of licensed data leaves requests out: the key alone finds a call.
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
                f"line {number}: the key {call['key']!r:.60} is not that of its request: the line "
                "was changed after it was exported."
            )
        recording._insert(key, text, reply, "IGNORE")
    return len(recording) - before


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    database.execute("PRAGMA synchronous=NORMAL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT):
        raise RecordingError(
            f"expected a recording of format {FORMAT}, but {path} has format {version}, whose keys "
            "are made in another way. Fix: record anew into another file, or use the release that "
            "wrote it."
        )
    if version == FORMAT:
        return  # nothing is written, so that a recording may lie where nothing can be
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
