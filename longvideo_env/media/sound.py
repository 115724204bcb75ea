"""The sound track of a film as samples, aligned with the film's start (library PyAV).

sound = read_sound(Path("film.mkv"))
sound.samples     # float32, one channel, 16,000 a second; sample 0 is the film's start
sound.fault       # what stopped decoding early, or None
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longvideo_env.media.film import av_error, open_film

RATE = 16_000
"""Samples per second, as speech models expect."""

_GAP_S = 0.1
"""Gaps in the time stamps of at least this many seconds are filled with silence."""

_LONGEST_GAP_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Sound:
    """A decoded sound track.

    Attributes:
        samples: Between -1 and 1. Shape: (samples,). Empty without a sound track.
        fault: Why decoding stopped early, or None.
        has_track: Whether there is a sound track at all.
    """

    samples: np.ndarray = field(repr=False)
    fault: str | None = None
    has_track: bool = True

    @property
    def length_s(self) -> float:
        """Length in seconds, including silence at the start."""
        return len(self.samples) / RATE


def read_sound(path: Path, tick: Callable[[float], None] = lambda _: None) -> Sound:
    """Decode the first sound track of a film. Needs 230 MB of memory per hour of film at the end.

    Args:
        path: The film, in any container that FFmpeg knows.
        tick: Called with the time reached.

    Raises:
        DatasetNotFoundError: The file cannot be opened.
        MalformedFileError: The file is not a film.
        MissingExtraError: PyAV is not installed.
    """
    pieces: list[np.ndarray] = []
    n, fault = 0, None
    with open_film(path) as container:
        if not container.streams.audio:
            return Sound(np.zeros(0, np.float32), None, has_track=False)
        stream = container.streams.audio[0]
        start_s = (container.start_time or 0) / 1_000_000
        resampler = _resampler()
        try:
            for frame in container.decode(stream):
                if frame.time is not None:
                    gap = float(frame.time) - start_s - n / RATE
                    if _GAP_S < gap < _LONGEST_GAP_S:
                        n += _add(pieces, np.zeros(round(gap * RATE), np.int16))
                        tick(n / RATE)
                frame.pts = None  # the resampler counts on its own
                for part in resampler.resample(frame):
                    n += _add(pieces, part.to_ndarray().reshape(-1))
            for part in resampler.resample(None):
                n += _add(pieces, part.to_ndarray().reshape(-1))
        except av_error() as error:
            fault = f"{error!s:.120}"
    whole = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    return Sound(whole.astype(np.float32) / 32768.0, fault)


def _add(pieces: list[np.ndarray], samples: np.ndarray) -> int:
    pieces.append(samples)
    return len(samples)


def _resampler() -> Any:
    import av

    return av.AudioResampler(format="s16", layout="mono", rate=RATE)
