"""Folders of files made from other files: each made once, whole or not at all, by one process.

It lies in `$LONGVIDEO_ENV_CACHE`, else in `longvideo-env` under `$XDG_CACHE_HOME` or `~/.cache`.
All of it can be deleted at any time: it is made again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from longvideo_env.records.files import cache_root

_MANY = 4
"""How many states of one dataset are kept: more than a split's each."""


def digest(*parts: object) -> str:
    """A short name for values, the same in every process."""
    return sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def cached_folder(group: str, state: str, make: Callable[[Path], None]) -> Path:
    """The folder for a state; `make` fills it if it is not there.

    Args:
        group: What is cached, such as a dataset's split; of each group the newest few are kept.
        state: Identifies what the folder is made from.
        make: Gets an empty folder to fill. What it raises goes through, and leaves nothing behind.

    Raises:
        OSError: The cache cannot be written.
    """
    root = cache_root()
    final = root / f"{group}-{state}"
    if final.is_dir():
        return final
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{group}.lock") as alone:
        if final.is_dir():  # another process made it while this one waited
            return final
        for left in root.glob(f".{group}-*") if alone else ():  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(dir=root, prefix=f".{group}-"))
        try:
            make(scratch)
            scratch.chmod(0o755)
            scratch.rename(final)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        _drop_old(root, group)
    return final


def _drop_old(root: Path, group: str) -> None:
    """Who has an old folder's files open keeps them: only their names go."""
    folders = [path for path in root.glob(f"{group}-*") if path.is_dir()]
    folders.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in folders[_MANY:]:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock that ends with the process; False where the system has none."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield True
