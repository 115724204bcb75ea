"""Cached folders of derived files. Each is made once by one process, completely or not at all.

The cache is in `$LONGVIDEO_ENV_CACHE`, otherwise in `longvideo-env` under `$XDG_CACHE_HOME` or
`~/.cache`. It can be deleted at any time and is rebuilt.
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
"""Number of cached states per dataset; more than it has splits."""


def digest(*parts: object) -> str:
    """A short hash of values. The same in every process."""
    return sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def cached_folder(group: str, state: str, make: Callable[[Path], None]) -> Path:
    """The folder for a state. `make` fills it if it does not exist.

    Args:
        group: What is cached, such as a dataset's split. The newest few folders of a group are
            kept.
        state: Identifies the sources of the folder.
        make: Fills an empty folder. If it raises, the folder is removed and the error passes
            through.

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
        for left in root.glob(f".{group}-*") if alone else ():  # left by a killed process
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
    """Delete old folders. Processes that have their files open can still read them."""
    folders = [path for path in root.glob(f"{group}-*") if path.is_dir()]
    folders.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in folders[_MANY:]:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock that ends with the process. Yields False if the system has no such lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield True
