"""Atomic writing of files, and locks on folders.

    write_json(folder / "summary.json", numbers)     # completely or not at all
    with hold_folder(folder):                        # a second process gets FolderInUseError
        ...

A lock ends with its process, even if the process is killed.
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
"""Error handler: a lone surrogate, which UTF-8 cannot encode, is written as a JSON escape."""


def cache_root() -> Path:
    """The cache folder: `$LONGVIDEO_ENV_CACHE`, or the user's cache.

    Raises:
        StorageError: The user has no cache folder.
    """
    own = os.environ.get("LONGVIDEO_ENV_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "longvideo-env"
    except RuntimeError as error:
        raise StorageError(
            "no place for a cache: HOME is not set. Fix: set LONGVIDEO_ENV_CACHE to a folder."
        ) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """The error for a file that cannot be written."""
    why = error.strerror or str(error)
    return StorageError(
        f"{path} cannot be written: {why}. Fix: free some space, or choose a writable folder. "
        "Finished work is kept."
    )


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: readers never see a partial file.

    Raises:
        StorageError: It cannot be written. An existing file is unchanged.
    """
    write_chunks(path, [text.encode("utf-8", ESCAPED)])


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file of any size atomically: readers never see a partial file.

    Raises:
        StorageError: It cannot be written. An existing file is unchanged.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())  # otherwise a crash of the machine could leave an empty file
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON atomically: readers never see a partial file."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def hold_folder(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Lock a folder for writing, or the files of it that `name` stands for.

    Raises:
        FolderInUseError: Another process, or another part of this one, holds it. The message names
            it.
        StorageError: The folder cannot be made or written.
    """
    lock, holder = FileLock(folder / name, timeout=0), folder / f"{name}.holder.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise FolderInUseError(
            f"{folder} is being written by {_read_holder(holder)}. Fix: wait until it has "
            "finished, stop it, or choose another --out."
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
    """An OSError for the lock library's error on disks without locks."""
    return error if isinstance(error, OSError) else OSError(str(error))


def _read_holder(file: Path) -> str:
    """The holder of a lock, as written in the lock file."""
    try:
        by = json.loads(file.read_text(encoding="utf-8"))
        return f"process {by['pid']} on {by['host']}, since {by['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
