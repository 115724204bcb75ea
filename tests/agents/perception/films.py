"""Films for the tests: pictures, with a recording of people as the sound track."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np


def write_film(
    path: Path, pictures: Sequence[Any], seconds_each: float = 2.0, sound: Path | None = None
) -> Path:
    """A film of still pictures (arrays, height x width x 3), with the sound of a wave file."""
    import av

    with av.open(str(path), "w") as film:
        height, width = pictures[0].shape[:2]
        video = film.add_stream("mpeg4", rate=4)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.bit_rate = 4_000_000
        track = None
        if sound is not None:
            track = film.add_stream("aac", rate=16_000)
            track.layout = "mono"
        for i in range(round(len(pictures) * seconds_each * 4)):
            frame = av.VideoFrame.from_ndarray(
                np.asarray(pictures[int(i / (seconds_each * 4))]), format="rgb24"
            )
            frame.pts, frame.time_base = i, Fraction(1, 4)
            film.mux(video.encode(frame))
        film.mux(video.encode(None))
        if track is not None and sound is not None:
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
            with av.open(str(sound)) as recording:
                for heard in recording.decode(audio=0):
                    for part in resampler.resample(heard):
                        film.mux(track.encode(part))
            film.mux(track.encode(None))
    return path


def drawn(text: str, size: int = 40) -> np.ndarray:
    """A picture of 640 x 360 with a text on a plain background."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (640, 360), (40, 60, 90))
    draw = ImageDraw.Draw(image)
    draw.text((60, 150), text, fill=(250, 250, 240), font=ImageFont.load_default(size))
    return np.asarray(image)
