"""Read saved trajectories line by line, plain or compressed, as JSON objects."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from longvideo_env.errors import MissingExtraError, TrajectoryError

ZST = ".zst"


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file, plain or compressed by zstd.

    Raises:
        MissingExtraError: It is compressed, and zstandard is not installed.
        OSError: It cannot be read or unpacked.
    """
    if path.suffix != ZST:
        with open(path, encoding="utf-8") as file:
            yield file
        return
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("zstandard", "report") from error
    # A file that was added to holds several frames.
    unpack = zstandard.ZstdDecompressor().stream_reader
    with open(path, "rb") as packed, unpack(packed, read_across_frames=True) as plain:
        try:
            yield io.TextIOWrapper(plain, encoding="utf-8")
        except zstandard.ZstdError as error:
            raise OSError(f"it is incomplete, or not packed with zstd ({error})") from error


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, one per line. An incomplete last line is left out.

    Raises:
        TrajectoryError: Another line is not a JSON object, or the file cannot be read.
        MissingExtraError: As `open_text`.
    """
    torn: TrajectoryError | None = None
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if torn is not None:
                    raise torn
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    torn = _problem(path, number, f"not JSON ({error})")
                    continue
                if not isinstance(record, dict):
                    raise _problem(path, number, f"{type(record).__name__}, not an object")
                yield record
    except (OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(
            f"{path} cannot be read: {error}. Fix: check the file, or play the run again."
        ) from error


def _problem(path: Path, number: int, what: str) -> TrajectoryError:
    return TrajectoryError(
        f"{path}, line {number}: expected one JSON object per line, got {what}. Fix: remove "
        "this line, or play the run again."
    )
