"""Seeds that depend only on what is played, not on the order, the process or the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on exactly these parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def draw_option_order(
    n_options: int, *parts: int | str, pinned: Collection[int] = ()
) -> tuple[int, ...]:
    """A random order of options: a permutation of `range(n_options)`.

    Pinned ones keep their index.
    """
    rng = np.random.default_rng(derive_seed("options", *parts))
    free = [i for i in range(n_options) if i not in pinned]
    drawn = iter(rng.permutation(len(free)))
    return tuple(i if i in pinned else free[int(next(drawn))] for i in range(n_options))
