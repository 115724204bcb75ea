"""Unpacks untrusted archives of frames or subtitles.

Only plain files with pictures or subtitles are unpacked. Links, devices, absolute paths, paths with
`..`, and archives beyond the limits are refused. Files first go into a scratch folder, so an
archive is unpacked completely or not at all.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from longvideo_env.errors import DatasetNotFoundError, MalformedFileError
from longvideo_env.records.files import storage_error

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\Z")
_PICTURE = re.compile(r".*\.(?:jpe?g|png)\Z", re.IGNORECASE)
_SUBTITLES = re.compile(r".*\.srt\Z", re.IGNORECASE)
_MOST_FOLDERS = 32
_MEND = "download the archive again, or unpack it by hand after looking into it."


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold.

    Attributes:
        n_files: Files.
        n_bytes: All files together, unpacked.
        file_bytes: One file.
    """

    n_files: int = 10_000_000
    n_bytes: int = 400_000_000_000
    file_bytes: int = 20_000_000


def unpack(
    archive: Path,
    out: Path,
    limits: Limits = Limits(),
    tick: Callable[[int], None] = lambda _: None,
) -> int:
    """Unpack a tar archive of frames or of `.srt` files, compressed or not, into a new folder.

    Args:
        archive: The archive.
        out: The folder for its content. It appears once unpacking is complete.
        limits: What it may hold.
        tick: Called with the number of bytes written so far.

    Returns:
        The number of files.

    Raises:
        DatasetNotFoundError: There is no such archive.
        MalformedFileError: It is damaged, or holds something that is not allowed.
        StorageError: The folder cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    folder = scratch / "new"
    folder.mkdir()
    n_files = n_bytes = 0
    try:
        for member, tar in _members(archive):
            target = _target(folder, member, archive)
            if target is None:
                continue
            n_files, n_bytes = n_files + 1, n_bytes + member.size
            _check_size(archive, member, n_files, n_bytes, limits)
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None, "checked above: it is a plain file"
            with source, open(target, "xb") as file:
                shutil.copyfileobj(source, file)
            tick(n_bytes)
        folder.rename(out)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault
            raise storage_error(out, error) from error
        raise MalformedFileError(
            f"expected a whole tar archive, but {error!s:.120}.", archive, None, _MEND
        ) from error
    finally:
        shutil.rmtree(scratch)
    return n_files


def _members(archive: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    if not archive.is_file():
        raise DatasetNotFoundError("no such archive.", archive, None, "check the path.")
    with tarfile.open(archive, "r|*") as tar:  # a stream: keeps no table of names
        for member in tar:
            yield member, tar
            tar.members = []  # type: ignore[attr-defined] # must not grow


def _target(folder: Path, member: tarfile.TarInfo, archive: Path) -> Path | None:
    """Path for a member. None for folders, and for files that are neither frames nor subtitles."""
    if member.isdir():
        return None
    name = PurePosixPath(member.name)
    parts = [part for part in name.parts if part != "."]
    problem = None
    if not member.isreg():
        problem = "a link or a device"
    elif len(parts) > _MOST_FOLDERS:
        problem = f"a path of {len(parts):,} folders"
    elif name.is_absolute() or ".." in parts or not parts or "\\" in member.name:
        problem = "a path that leads out of the folder"
    if problem is not None:
        raise MalformedFileError(
            f"expected plain files, got {problem}: {member.name!r:.80}.", archive, None, _MEND
        )
    if not all(map(_PART.match, parts)):  # such as macOS's `._00001.jpg`
        return None
    wanted = _PICTURE.match(parts[-1]) or _SUBTITLES.match(parts[-1])
    return folder.joinpath(*parts) if wanted else None


def _check_size(
    archive: Path, member: tarfile.TarInfo, n_files: int, n_bytes: int, limits: Limits
) -> None:
    for what, value, most in (
        ("bytes in one file", member.size, limits.file_bytes),
        ("files", n_files, limits.n_files),
        ("bytes in all", n_bytes, limits.n_bytes),
    ):
        if value > most:
            raise MalformedFileError(
                f"expected at most {most:,} {what}, got {value:,} at {member.name!r:.80}.",
                archive,
                None,
                _MEND,
            )
