"""Files that others may read while they are written, and folders that one process owns at a time.

    write_json(folder / "summary.json", numbers)     # whole or not at all
    with hold_folder(folder):                        # a second process is refused, and reads why
        ...

A lock ends with its process, also when that is killed.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from longvideo_env.errors import FolderInUseError, StorageError

LOCK = ".lock"
ESCAPED = "backslashreplace"
"""Half a pair of UTF-16, which UTF-8 cannot hold, is written as JSON escapes it."""


def cache_root() -> Path:
    """Where files lie that can be made again: `$LONGVIDEO_ENV_CACHE`, or the user's cache.

    Raises:
        StorageError: The user has none.
    """
    own = os.environ.get("LONGVIDEO_ENV_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "longvideo-env"
    except RuntimeError as error:
        raise StorageError(
            "there is no HOME to keep a cache in. Fix: set LONGVIDEO_ENV_CACHE to a folder."
        ) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """What to say where a file cannot be written."""
    why = error.strerror or str(error)
    return StorageError(
        f"{path} cannot be written: {why}. Fix: make room, or give a place that may be written; "
        "what was finished before is kept."
    )


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader never sees half of it.

    Raises:
        StorageError: It cannot be written. What was there before is still there.
    """
    write_chunks(path, [text.encode("utf-8", ESCAPED)])


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file of any size so that a reader never sees half of it.

    Raises:
        StorageError: It cannot be written. What was there before is still there.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())  # or the name could outlive a crash of the machine, empty
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that a reader never sees half of it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def hold_folder(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Be the only one who writes a folder, or that of its files which `name` stands for.

    Raises:
        FolderInUseError: Another process, or another part of this one, holds it; says which.
        StorageError: It cannot be made or written.
    """
    lock, holder = FileLock(folder / name, timeout=0), folder / f"{name}.holder.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise FolderInUseError(
            f"{folder} is being written by {_read_holder(holder)}. Fix: wait until it has "
            "finished, stop it, or give another --out."
        ) from error
    except (OSError, NotImplementedError) as error:
        raise storage_error(folder, _as_os_error(error)) from error
    try:
        now = datetime.now(timezone.utc).isoformat(" ", "seconds")
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        write_json(holder, me)
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _as_os_error(error: Exception) -> OSError:
    """The lock's own word for a disk without locks is no OSError."""
    return error if isinstance(error, OSError) else OSError(str(error))


def _read_holder(file: Path) -> str:
    """Who holds a lock, as it wrote down itself."""
    try:
        by = json.loads(file.read_text(encoding="utf-8"))
        return f"process {by['pid']} on {by['host']}, since {by['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
