"""Reads a table of questions from CSV, TSV, JSON, JSON Lines or Parquet.

for number, row in read_table(Path("nextqa/val.csv"), rejects): ...
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from longvideo_env.datasets.jsonfile import read_rows, read_text
from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.errors import (
    DatasetNotFoundError,
    InvalidRowError,
    MalformedFileError,
    MissingExtraError,
)

Row: TypeAlias = Mapping[str, Any]

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
_MEND = "pass a table of questions as CSV, TSV, JSON, JSON Lines or Parquet."


def read_table(path: Path, rejects: Rejects) -> Iterator[tuple[int, Row]]:
    """The rows of a table with their numbers, from 1.

    Raises:
        MalformedFileError: The file is not a table, or has no rows.
        MissingExtraError: It is Parquet, and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        yield from _delimited(path, "\t" if suffix == ".tsv" else None, rejects)
    elif suffix == ".parquet":
        yield from enumerate(_parquet(path), start=1)
    else:
        for number, row in read_rows(path, rejects):
            if isinstance(row, dict):
                yield number, row
            else:
                problem = f"expected an object with a question, got {row!r:.60}."
                rejects.add(InvalidRowError(problem, path, number, MEND_ROW))


def find_table(folder: Path, names: Sequence[str]) -> Path | None:
    """The first file that matches one of the names, in order.

    Names such as `val` or `MC/test-*`.
    """
    for name in names:
        for suffix in SUFFIXES:
            found = sorted(path for path in folder.glob(name + suffix) if path.is_file())
            if found:
                return found[0]
    return None


def _delimited(path: Path, delimiter: str | None, rejects: Rejects) -> Iterator[tuple[int, Row]]:
    text = read_text(path)
    if delimiter is None:
        head = text.partition("\n")[0]
        delimiter = max(",;\t", key=head.count)
    csv.field_size_limit(10_000_000)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    number = 0
    try:
        header = [name.strip() for name in next(rows, [])]
        if not header or len(set(header)) < len(header):
            raise MalformedFileError(
                f"expected distinct column names in the first line, got {header!r:.120}.",
                path,
                1,
                _MEND,
            )
        width = len(header)
        for cells in rows:
            if not cells:
                continue
            number += 1
            if len(cells) == width:
                yield number, dict(zip(header, cells, strict=True))
            else:
                problem = f"expected {width} cells as in the first line, got {len(cells)}."
                rejects.add(InvalidRowError(problem, path, number, MEND_ROW))
    except csv.Error as error:
        raise MalformedFileError(
            f"expected a table of cells, but {error}.", path, number + 1, _MEND
        ) from error
    if not number:
        raise MalformedFileError("expected questions, found none.", path, None, _MEND)


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data") from error
    try:
        file = parquet.ParquetFile(path)
        # Columns with binary pictures or films are not read.
        kept = [f.name for f in file.schema_arrow if not pa.types.is_binary(f.type)]
        rows: list[dict[str, Any]] = file.read(columns=kept).to_pylist()
    except OSError as error:
        if not path.is_file():
            raise DatasetNotFoundError(f"{error!s:.120}.", path) from error
        raise MalformedFileError(f"expected Parquet, but {error!s:.120}.", path) from error
    except (pa.ArrowException, ValueError) as error:
        raise MalformedFileError(f"expected Parquet, but {error!s:.120}.", path) from error
    if not rows:
        raise MalformedFileError("expected questions, found none.", path, None, _MEND)
    return rows
