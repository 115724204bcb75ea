"""Questions that lie in no file: a list of dicts, a pandas DataFrame, a `datasets.Dataset`."""

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
    """What a pandas DataFrame can do; pandas itself is not imported."""

    columns: Any

    def to_dict(self, orient: str) -> Any: ...


@runtime_checkable
class _HubDataset(Protocol):
    """What a `datasets.Dataset` can do."""

    column_names: Any

    def to_list(self) -> list[dict[str, Any]]: ...


def rows_of(data: object) -> list[Row] | None:
    """The rows of a list of dicts, a DataFrame or a `datasets.Dataset`; None for anything else."""
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
        raise SpecError(f"expected rows as dicts, got {rows[wrong]!r:.60} at place {wrong}.")
    return [{str(key): _plain(value) for key, value in row.items()} for row in rows]


def content_hash(rows: Sequence[Row]) -> str:
    """A short name for rows, the same in every process."""
    text = json.dumps(rows, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy as plain ones."""
    return value.tolist() if type(value).__module__ == "numpy" else value
