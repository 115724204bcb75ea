"""Text in pictures: the spec `rapidocr` (library rapidocr, its weights are inside the package).

    --read-text rapidocr
    --read-text rapidocr:every_s=1,score=0.8

A picture that looks like the one before it is not read again. Short strings of at most three
letters need a score of 0.9: in plain pictures such strings turn up at lower ones.
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
"""Grey levels by which a point of the small picture must differ for another reading."""


@dataclass(frozen=True)
class ScreenTextOptions:
    """What a spec may set.

    Attributes:
        every_s: Seconds from one frame that is read to the next.
        score: Texts below it are left out.
    """

    every_s: float = 2.0
    score: float = 0.75

    def __post_init__(self) -> None:
        if not (0.01 <= self.every_s <= 3600 and 0 <= self.score <= 1):
            raise SpecError(
                f"rapidocr: expected every_s of 0.01 to 3600 and score of 0 to 1, got "
                f"{self.every_s} and {self.score}."
            )


class ScreenTextReader:
    """See the module's docstring.

    Args:
        argument: Options, as `every_s=1`.

    Raises:
        SpecError: An option has no meaning.
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

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it warns of plain pictures
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

    # Not imread, which knows no path beyond the system's code page on Windows.
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ToolError(f"{path.name} cannot be decoded.")
    return np.asarray(image)


def _small(image: np.ndarray) -> np.ndarray:
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, _SMALL, interpolation=cv2.INTER_AREA), dtype=np.int16)
