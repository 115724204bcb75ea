"""Questions in memory: a list of dicts, a pandas DataFrame, or a `datasets.Dataset`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable

from longvideo_env.datasets.dataset import Dataset
from longvideo_env.datasets.own.table_files import Row
from longvideo_env.errors import SpecError


@runtime_checkable
class _Frame(Protocol):
    """The part of a pandas DataFrame that is used. pandas itself is not imported."""

    columns: Any

    def to_dict(self, orient: str) -> Any: ...


@runtime_checkable
class _HubDataset(Protocol):
    """The part of a `datasets.Dataset` that is used."""

    column_names: Any

    def to_list(self) -> list[dict[str, Any]]: ...


def rows_of(data: object) -> list[Row] | None:
    """Rows of a list of dicts, a DataFrame or a `datasets.Dataset`. None for anything else."""
    if isinstance(data, _Frame):
        return [{str(key): _plain(value) for key, value in row.items()}
                for row in data.to_dict(orient="records")]  # fmt: skip
    if isinstance(data, _HubDataset):
        return list(data.to_list())
    if isinstance(data, str | bytes | Mapping | PurePath | Dataset) or not isinstance(
        data, Iterable
    ):
        return None
    rows = list(data)
    wrong = next((i for i, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise SpecError(f"expected rows as dicts, got {rows[wrong]!r:.60} at index {wrong}.")
    return [{str(key): _plain(value) for key, value in row.items()} for row in rows]


def content_hash(rows: Sequence[Row]) -> str:
    """A short hash of the rows' content. The same in every process."""
    text = json.dumps(rows, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _plain(value: Any) -> Any:
    """NumPy arrays and numbers as plain Python values."""
    return value.tolist() if type(value).__module__ == "numpy" else value
