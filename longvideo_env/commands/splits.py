"""Which split a command reads where none is named.

Commands that look at questions, play them or score answers take `val`, or the only split there is.
Those that train, or make something ready for training, take `train`.
"""

from __future__ import annotations

from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.errors import SeveralSplitsError

DEFAULT_SPLIT = "val"
SPLIT_HELP = f"Split of the dataset. Default: {DEFAULT_SPLIT}, or the only one there is."


def open_split(spec: str, split: str | None, *, skip_invalid: bool = False) -> Dataset:
    """Load the split that was named, or the default one.

    Raises:
        DataError: There is no such dataset or split, or it cannot be read.
    """
    try:
        return load_dataset(spec, split, skip_invalid=skip_invalid)
    except SeveralSplitsError as error:
        if DEFAULT_SPLIT not in error.splits:
            raise
    return load_dataset(spec, DEFAULT_SPLIT, skip_invalid=skip_invalid)
