"""Finds models that transcribe, read or caption, by spec, so that the library imports no model.

    reader = find_reader("speech", "whisper:tiny.en")    # of the group `longvideo_env.speech`
    heard = reader.hear(samples)                         # Heard(lines, "en")

A speech reader takes samples. Text and caption readers take frames. An entry point names a callable
that takes the text after the colon in the spec and returns the reader.
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
"""Kind of layer -> group of entry points for its readers."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said.

    Attributes:
        lines: One sentence each, in seconds of the film.
        language: Such as `en`, detected or given. Empty if nobody speaks.
    """

    lines: tuple[TimedText, ...]
    language: str = ""


class SpeechReader(Protocol):
    """Turns sound into lines.

    Attributes:
        maker: Model, version and settings.
    """

    maker: Maker

    def hear(self, samples: np.ndarray, tick: Callable[[float], None] = lambda _: None, /) -> Heard:
        """Transcribe mono samples at 16,000 Hz. Shape: (samples,)."""
        ...


class FrameReader(Protocol):
    """Turns frames into texts.

    Attributes:
        maker: Model, version and settings.
        every_s: Seconds between two frames.
        batch: Frames per call.
    """

    maker: Maker
    every_s: float
    batch: int

    def read(self, frames: Sequence[Path], /) -> Sequence[Sequence[str]]:
        """The texts of each frame; empty if there are none.

        Raises:
            ToolError: A frame cannot be read.
        """
        ...


@runtime_checkable
class GroupReader(Protocol):
    """Turns several frames of a stretch into texts. `FrameReader` does so for one frame.

    Attributes:
        maker: Model, version and settings.
        every_s: Length of a stretch in seconds.
        batch: Stretches per call.
        together: Maximum frames per stretch, spread evenly over it.
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
