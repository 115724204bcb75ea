"""Text in frames: the spec `rapidocr` (library rapidocr, which contains its weights).

    --read-text rapidocr
    --read-text rapidocr:every_s=1,score=0.8

A frame that looks like the one before is not read again. Strings of at most three letters need a
score of 0.9, because frames without text give such strings at lower scores.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from longvideo_env.datasets.layers import TEXT, Maker
from longvideo_env.errors import MissingExtraError, SpecError, ToolError
from longvideo_env.specs import parse_spec

SHORT, SURE = 3, 0.9
_SMALL = (160, 90)
_CHANGE = 24
"""Difference in grey level of any point of the downscaled frame that triggers a new reading."""


@dataclass(frozen=True)
class ScreenTextOptions:
    """Options of a spec.

    Attributes:
        every_s: Seconds between frames that are read.
        score: Texts with a lower score are left out.
    """

    every_s: float = 2.0
    score: float = 0.75

    def __post_init__(self) -> None:
        if not (0.01 <= self.every_s <= 3600 and 0 <= self.score <= 1):
            raise SpecError(
                f"rapidocr: every_s must be 0.01 to 3600 and score 0 to 1, got {self.every_s} and "
                f"{self.score}."
            )


class ScreenTextReader:
    """See the module's docstring.

    Args:
        argument: Options such as `every_s=1`.

    Raises:
        SpecError: An option is invalid.
        MissingExtraError: rapidocr is not installed.
    """

    batch = 16

    def __init__(self, argument: str) -> None:
        spec = parse_spec(f"rapidocr:{argument}")
        if spec.argument:
            raise SpecError(f"rapidocr takes options only, such as every_s=1, got {argument!r}.")
        options = spec.read(ScreenTextOptions)
        try:
            import cv2  # noqa: F401
            import rapidocr  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(error.name or "rapidocr", "ocr") from error
        self.every_s = options.every_s
        self._score = options.score
        self.maker = Maker(
            TEXT, "rapidocr", f"rapidocr {version('rapidocr')}", {**asdict(options), "sure": SURE}
        )

    @cached_property
    def _engine(self) -> Any:
        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it warns about frames without text
        return RapidOCR(params={"Global.log_level": "error"})

    def read(self, frames: Sequence[Path], /) -> Sequence[Sequence[str]]:
        """The texts of each frame, from top to bottom.

        Raises:
            ToolError: A frame cannot be decoded.
        """
        found: list[Sequence[str]] = []
        before: np.ndarray | None = None
        for path in frames:
            image = _decoded(path)
            small = _small(image)
            if before is not None and np.abs(small - before).max() < _CHANGE:
                found.append(found[-1])
                continue
            before = small
            found.append(self._texts(image))
        return found

    def _texts(self, image: np.ndarray) -> Sequence[str]:
        result = self._engine(image)
        return [
            text.strip()
            for text, score in zip(result.txts or (), result.scores or (), strict=True)
            if score >= (SURE if len(text.strip()) <= SHORT else self._score)
        ]


def _decoded(path: Path) -> np.ndarray:
    import cv2

    # Not imread, which fails on Windows for paths outside the system's code page.
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ToolError(f"{path.name} cannot be decoded.")
    return np.asarray(image)


def _small(image: np.ndarray) -> np.ndarray:
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, _SMALL, interpolation=cv2.INTER_AREA), dtype=np.int16)
