"""A long film is transcribed in pieces. A killed run continues with the missing pieces."""

import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parent))

from films import write_film

from longvideo_env.commands.data import hearing
from longvideo_env.commands.data.hearing import cuts, hear_film
from longvideo_env.datasets.layers import SPEECH, Maker
from longvideo_env.datasets.perceiving import Heard
from longvideo_env.media.sound import RATE
from longvideo_env.schema import Clip, TimedText, Video

SECONDS = 12


class Beeps:
    """Turns each loud stretch into a line. Stops at a piece, like a killed process."""

    maker = Maker(SPEECH, "beeps")

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.n = 0

    def hear(self, samples: np.ndarray, tick: Any = None, /) -> Heard:
        if self.n == self.stop_at:
            raise KeyboardInterrupt
        self.n += 1
        loud = (np.abs(samples[: len(samples) // 1600 * 1600]).reshape(-1, 1600).max(1) > 0.1) * 1
        edges = np.diff(np.concatenate([[0], loud, [0]]))
        spans = zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0), strict=True)
        lines = [TimedText("beep", round(a / 10, 3), round(b / 10, 3)) for a, b in spans]
        return Heard(tuple(lines), "en" if lines else "")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A beep of 0.6 s in each second."""
    t = np.arange(SECONDS * RATE) / RATE
    tone = np.where((t % 1 > 0.2) & (t % 1 < 0.8), np.sin(2 * np.pi * 440 * t), 0)
    with wave.open(str(tmp_path / "beeps.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((tone * 20_000).astype(np.int16).tobytes())
    grey = np.full((36, 64, 3), 90, np.uint8)
    return write_film(tmp_path / "film.mp4", [grey] * 2, SECONDS / 2, tmp_path / "beeps.wav")


VIDEO = Video("film", (Clip("film_seg01_clip_00", start_s=0.0, end_s=6.0),
                       Clip("film_seg01_clip_01", start_s=6.0, end_s=12.0)))  # fmt: skip


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*")) if p.is_file() and "lock" not in p.name}  # fmt: skip


def heard_in(folder: Path, film: Path, reader: Beeps) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    made = hear_film(folder, film, VIDEO, reader)
    assert (made.n_lines, made.note) == (SECONDS, "language en")
    return files_of(folder)


def test_a_killed_run_hears_what_is_left_and_ends_with_the_same_bytes(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Beeps()
    at_once = heard_in(tmp_path / "once", film, whole)
    assert whole.n == 1, "a short film is one piece"
    monkeypatch.setattr(hearing, "PIECE_S", 3.0)
    pieces = Beeps()
    straight = heard_in(tmp_path / "straight", film, pieces)
    assert pieces.n == 4
    assert len(straight["speech.srt"]) == len(at_once["speech.srt"]), "no line is cut in two"
    for stop in range(4):
        folder = tmp_path / f"killed{stop}"
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            hear_film(folder, film, VIDEO, Beeps(stop))
        assert "speech.srt" not in files_of(folder)
        (journal,) = (folder / "layers").glob("*.partial.jsonl")
        with open(journal, "a", encoding="utf-8") as file:
            file.write('[3, "en", [["be')  # half a line
        rest = Beeps()
        assert heard_in(folder, film, rest) == straight
        assert rest.n == 4 - stop


def test_cuts_lie_where_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "PIECE_S", 60.0)
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.5, 0.5, 150 * RATE).astype(np.float32)
    samples[65 * RATE : 66 * RATE] = 0
    assert cuts(samples[: 89 * RATE]) == [(0, 89 * RATE)]
    assert cuts(samples[:0]) == [(0, 0)]
    (first, second, *more) = cuts(samples)
    assert not more
    assert 65.2 < first[1] / RATE < 65.8
    assert (first[0], second[0], second[1]) == (0, first[1], len(samples))
