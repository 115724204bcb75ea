"""Make the speech layer of a film, piece by piece.

A long film is transcribed in pieces of about ten minutes, cut at quiet places. Each piece is saved
at once. So a killed run continues with the missing pieces, and its layer has the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from longvideo_env.commands.data.seeing import LOCK, Made, kept_lines
from longvideo_env.datasets.layers import Maker, write_layer
from longvideo_env.datasets.perceiving import Heard, SpeechReader
from longvideo_env.datasets.tvqa.layout import LAYERS
from longvideo_env.media.sound import RATE, Sound, read_sound
from longvideo_env.media.subtitles import cut_to_clips
from longvideo_env.records.files import hold_folder, write_text
from longvideo_env.schema import TimedText, Video

SRT = "speech.srt"
PIECE_S = 600.0
_AROUND_S = 15.0
_BLOCK = RATE // 10
_QUIET_BLOCKS = 5
"""A cut is in the middle of the quietest half second."""


def hear_film(
    folder: Path,
    film: Path,
    video: Video,
    reader: SpeechReader,
    tick: Callable[[str, float], None] = lambda *_: None,
) -> Made:
    """Make the speech layer of a film's folder, and an SRT file.

    Args:
        folder: The film's folder.
        film: The film itself.
        video: Its clips.
        reader: The speech model.
        tick: Called with the current step and the second of the film that it has reached.

    Raises:
        DataError: The film cannot be opened.
        FolderInUseError: Another process makes layers of the folder.
    """
    sound = read_sound(film, lambda t: tick("decoding sound", t))
    with hold_folder(folder, LOCK):
        journal = _Pieces(folder, reader.maker, sound.samples)
        for number, (start, end) in enumerate(cuts(sound.samples)):
            if number not in journal.done:
                at_s = start / RATE
                heard = reader.hear(sound.samples[start:end], partial(_listening, tick, at_s))
                journal.add(number, _later(heard, at_s))
        heard = journal.whole()
        spans = [(clip.start_s or 0.0, clip.end_s or 0.0) for clip in video.clips]
        cut = cut_to_clips(heard.lines, spans)
        clips = {c: lines for c, lines in zip(video.clip_ids, cut, strict=True) if lines}
        file = write_layer(folder, reader.maker, clips)
        write_text(folder / SRT, srt(heard))
        journal.finish()
    return Made(reader.maker, file, len(heard.lines), note=_note(sound, heard))


def _listening(tick: Callable[[str, float], None], from_s: float, t: float) -> None:
    tick("listening", from_s + t)


def cuts(samples: np.ndarray) -> list[tuple[int, int]]:
    """The pieces of a sound: about ten minutes each, cut at the quietest place nearby.

    Args:
        samples: One channel, at 16,000 samples per second. Shape: (samples,).

    Returns:
        `(start, end)` in samples. The last piece may be half as long again.
    """
    size, near = round(PIECE_S * RATE), round(min(_AROUND_S, PIECE_S / 4) * RATE)
    found, start = [], 0
    while len(samples) - start > 1.5 * size:
        first = start + size - near
        end = first + _quietest(samples[first : first + 2 * near])
        found.append((start, end))
        start = end
    return [*found, (start, len(samples))]


def _quietest(samples: np.ndarray) -> int:
    blocks = np.abs(samples[: len(samples) // _BLOCK * _BLOCK]).reshape(-1, _BLOCK).mean(axis=1)
    sums = np.convolve(blocks.astype(np.float64), np.ones(_QUIET_BLOCKS), "valid")
    return int(sums.argmin()) * _BLOCK + _QUIET_BLOCKS * _BLOCK // 2


def _later(heard: Heard, by_s: float) -> Heard:
    if not by_s:
        return heard
    lines = (
        TimedText(x.text, round((x.start_s or 0.0) + by_s, 3), round((x.end_s or 0.0) + by_s, 3))
        for x in heard.lines
    )
    return Heard(tuple(lines), heard.language)


class _Pieces:
    """The finished pieces, saved to disk one by one.

    Args:
        folder: The film's folder.
        maker: The speech model.
        samples: The film's sound. The pieces of another sound on disk are dropped.
    """

    def __init__(self, folder: Path, maker: Maker, samples: np.ndarray) -> None:
        self._file = folder / LAYERS / f"{maker.file_name}.partial.jsonl"
        self._file.parent.mkdir(exist_ok=True)
        digest = sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()[:16]
        said = {"maker": asdict(maker), "sound": digest, "piece_s": PIECE_S}
        header = json.dumps(said, default=str)
        self.done: dict[int, Heard] = {}
        kept = kept_lines(self._file, header)
        for number, language, lines in kept:
            self.done[number] = Heard(tuple(TimedText(*line) for line in lines), language)
        whole = [header, *(json.dumps(line, ensure_ascii=False) for line in kept)]
        write_text(self._file, "".join(f"{line}\n" for line in whole))

    def add(self, number: int, heard: Heard) -> None:
        """Save a piece."""
        self.done[number] = heard
        lines = [[line.text, line.start_s, line.end_s] for line in heard.lines]
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(json.dumps([number, heard.language, lines], ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def whole(self) -> Heard:
        """All pieces as one, with all their languages."""
        pieces = [self.done[number] for number in sorted(self.done)]
        languages = dict.fromkeys(piece.language for piece in pieces if piece.language)
        lines = tuple(line for piece in pieces for line in piece.lines)
        return Heard(lines, ", ".join(languages))

    def finish(self) -> None:
        """Delete the journal, after the layer was written."""
        self._file.unlink()


def _note(sound: Sound, heard: Heard) -> str:
    if not sound.has_track:
        note = "no speech found: the film has no sound track"
    elif not heard.lines:
        note = "no speech found"
    else:
        note = f"language {heard.language}"
    if sound.fault:
        note += f"; the sound ends after {sound.length_s:.1f} s ({sound.fault})"
    return note


def srt(heard: Heard) -> str:
    """The lines as the text of an SRT file."""
    cues = (
        f"{i}\n{_stamp(line.start_s)} --> {_stamp(line.end_s)}\n{line.text}\n"
        for i, line in enumerate(heard.lines, start=1)
    )
    return "\n".join(cues)


def _stamp(seconds: float | None) -> str:
    ms = round((seconds or 0.0) * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"
