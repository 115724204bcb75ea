"""The default split of a command.

Commands that show questions, play them or score answers use `val`, or the only split of the
dataset. Commands that train or prepare training use `train`.
"""

from __future__ import annotations

from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.errors import SeveralSplitsError

DEFAULT_SPLIT = "val"
SPLIT_HELP = f"Split of the dataset. Default: {DEFAULT_SPLIT}, or the only split."


def open_split(spec: str, split: str | None, *, skip_invalid: bool = False) -> Dataset:
    """Load the given split, or the default one.

    Raises:
        DataError: There is no such dataset or split, or it cannot be read.
    """
    try:
        return load_dataset(spec, split, skip_invalid=skip_invalid)
    except SeveralSplitsError as error:
        if DEFAULT_SPLIT not in error.splits:
            raise
    return load_dataset(spec, DEFAULT_SPLIT, skip_invalid=skip_invalid)
