"""What hears and sees: found by spec, as agents are, so that the library imports no model.

    reader = find_reader("speech", "whisper:tiny.en")    # of the group `longvideo_env.speech`
    heard = reader.hear(samples)                         # Heard(lines, "en")

A reader of speech takes samples; readers of text and of captions take frames. An entry point names
a callable that takes what follows the colon in the spec and returns the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from longvideo_env.datasets.layers import CAPTIONS, SPEECH, TEXT, Maker
from longvideo_env.errors import SpecError
from longvideo_env.schema import TimedText
from longvideo_env.specs import entry_point_names, find_part, is_attribute

GROUPS = {SPEECH: "speech", TEXT: "screen_text", CAPTIONS: "captioners"}
"""The kind of layer, and the group of entry points of what makes it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said.

    Attributes:
        lines: In seconds of the film, a sentence each.
        language: Such as `en`, found or given; empty where nobody speaks.
    """

    lines: tuple[TimedText, ...]
    language: str = ""


class SpeechReader(Protocol):
    """Turns sound into lines.

    Attributes:
        maker: What it is.
    """

    maker: Maker

    def hear(self, samples: np.ndarray, tick: Callable[[float], None] = lambda _: None, /) -> Heard:
        """What is said in samples at 16,000 a second, one channel. Shape: (samples,)."""
        ...


class FrameReader(Protocol):
    """Turns frames into texts.

    Attributes:
        maker: What it is.
        every_s: Seconds from one frame that it wants to the next.
        batch: How many frames it wants at once.
    """

    maker: Maker
    every_s: float
    batch: int

    def read(self, frames: Sequence[Path], /) -> Sequence[Sequence[str]]:
        """The texts of each frame; none where there is nothing.

        Raises:
            ToolError: A frame cannot be read.
        """
        ...


@runtime_checkable
class GroupReader(Protocol):
    """Turns several frames of a stretch into texts, as `FrameReader` does with one.

    Attributes:
        maker: What it is.
        every_s: Seconds of a stretch.
        batch: How many stretches it wants at once.
        together: The most frames of a stretch, spread evenly over it.
    """

    maker: Maker
    every_s: float
    batch: int
    together: int

    def read_groups(self, groups: Sequence[Sequence[Path]], /) -> Sequence[Sequence[str]]:
        """The texts of each stretch.

        Raises:
            ToolError: A frame cannot be read.
        """
        ...


def find_reader(kind: str, spec: str) -> Any:
    """The reader that a spec names.

    Args:
        kind: `speech`, `text` or `captions`.
        spec: `NAME` or `NAME:ARGUMENT`.

    Raises:
        SpecError: There is none.
        MissingExtraError: It needs a package that is not installed.
    """
    name, _, argument = spec.partition(":")
    if not name:
        raise SpecError(f"expected NAME or NAME:ARGUMENT for {kind}, got {spec!r}.")
    if name not in entry_point_names(GROUPS[kind]) and is_attribute(spec):
        name, argument = spec, ""
    return cast("Callable[[str], Any]", find_part(GROUPS[kind], name))(argument)
