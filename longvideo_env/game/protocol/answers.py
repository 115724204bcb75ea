"""Which option an answer names."""

from __future__ import annotations

import re

from longvideo_env.game.protocol.base import MalformedKind

_LABEL = re.compile(r"""[\s"'(\[]*a([0-9]+)[\s"')\].:]*""", re.IGNORECASE | re.ASCII)


def read_answer(text: str, n_options: int) -> int | MalformedKind:
    """Index of the option that an answer names, or what is wrong with it."""
    match = _LABEL.fullmatch(text)
    if match is None:
        return MalformedKind.NOT_A_LABEL
    # Long runs of digits cannot name an option, and int() refuses the longest.
    choice = int(match[1]) if len(match[1]) <= 2 else n_options
    return choice if choice < n_options else MalformedKind.UNKNOWN_OPTION
