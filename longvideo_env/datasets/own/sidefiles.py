"""Files beside the questions: subtitles in a folder, a zip or a tar, read one at a time.

A file that cannot be read does not stop a benchmark. Its video is played without it, and the loss
is recorded.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import DataError
from longvideo_env.media.subtitles import read_subtitles
from longvideo_env.schema import TimedText

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
_MAX_BYTES = 20_000_000


def read_lines(path: Path, rejects: Rejects, name: str = "") -> tuple[TimedText, ...]:
    """The lines of a subtitle file. Empty if it cannot be read; that is recorded in `rejects`.

    Args:
        path: The file.
        rejects: Takes a note if the file cannot be read.
        name: Name of the file in the note; by default its file name.
    """
    try:
        found = read_subtitles(path)
    except DataError as error:
        rejects.side_file(name or path, error)
        return ()
    if found.problems:
        rejects.partly[name or path.name] = str(found)
    return found.lines


def spread(texts: Sequence[str], length_s: float | None) -> tuple[TimedText, ...]:
    """Spread texts without times evenly over a video. Without a length, all are at its start."""
    step = (length_s or 0.0) / max(len(texts), 1)
    return tuple(TimedText(text, i * step, (i + 1) * step) for i, text in enumerate(texts))


class SideFiles:
    """Opens files by name, from the first folder or archive that exists.

    Args:
        folder: The benchmark's folder.
        names: Names of the folder or archive without suffix, such as `subtitle`.
        rejects: Takes notes about files that cannot be read.
    """

    def __init__(self, folder: Path, names: Sequence[str], rejects: Rejects) -> None:
        self._rejects = rejects
        self._folders = [folder / name for name in names if (folder / name).is_dir()]
        archives = [folder / f"{name}{suffix}" for name in names for suffix in (".zip", ".tar")]
        self._archives = [] if self._folders else [path for path in archives if path.is_file()]

    @cached_property
    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for top in self._folders:
            for folder, _, names in os.walk(top):
                found.update((name, Path(folder, name)) for name in names)
        return found

    @cached_property
    def _members(self) -> dict[str, tuple[Path, str]]:
        found: dict[str, tuple[Path, str]] = {}
        for archive in self._archives:
            try:
                names = _member_names(archive)
            except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
                self._rejects.side_file(archive, f"{type(error).__name__}: {error}")
                continue
            found.update((PurePosixPath(name).name, (archive, name)) for name in names)
        return found

    @contextmanager
    def open(self, name: str) -> Iterator[Path | None]:
        """Open a file by name, as a context manager. None if it does not exist."""
        if name in self._files:
            yield self._files[name]
        elif name in self._members:
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch, f"member{PurePosixPath(name).suffix}")
                try:
                    path.write_bytes(_member(*self._members[name]))
                except (OSError, RuntimeError, ValueError, zipfile.BadZipFile,
                        tarfile.TarError) as error:  # fmt: skip
                    self._rejects.side_file(name, f"{type(error).__name__}: {error}")
                    yield None
                else:
                    yield path
        else:
            yield None

    def lines(self, stem: str) -> tuple[TimedText, ...]:
        """The subtitles of a video, by file name without suffix."""
        for suffix in SUFFIXES:
            name = stem + suffix
            with self.open(name) as path:
                # An empty file is a video without speech.
                if path is not None and path.stat().st_size:
                    return read_lines(path, self._rejects, name)
        return ()


def _member_names(archive: Path) -> list[str]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            return [info.filename for info in opened.infolist() if not info.is_dir()]
    with tarfile.open(archive) as tar:
        return [member.name for member in tar if member.isfile()]


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened, opened.open(name) as file:
            data = file.read(_MAX_BYTES + 1)
    else:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(name)
            data = member.read(_MAX_BYTES + 1) if member else b""
    if len(data) > _MAX_BYTES:
        raise ValueError(f"expected at most {_MAX_BYTES:,} bytes")
    return data
