"""Speech to lines with Whisper: `whisper:SIZE` or `whisper:FOLDER` (library faster-whisper).

    --speech whisper:small                  # from the hub, or its cache
    --speech whisper:models/tiny.en,language=en

Stretches without a voice are removed first, because Whisper invents words for music. Words are
joined into sentences, so lines end with sentences, not with Whisper's windows of 30 seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from longvideo_env.datasets.layers import SPEECH, Maker
from longvideo_env.datasets.perceiving import Heard
from longvideo_env.errors import InputError, MissingExtraError, SpecError
from longvideo_env.records.identity import digest_folder
from longvideo_env.schema import TimedText
from longvideo_env.specs import parse_spec

AT_HAND = ("small", "base", "tiny", "small.en", "base.en", "tiny.en", "medium", "turbo", "large-v3")
"""Sizes that `auto` looks for in the hub's cache, the best for a laptop first."""

PAUSE_S = 1.5
LONGEST_S = 20.0
_QUOTES = "\"'”’)"  # noqa: RUF001 - curly ones close quotations
_ENDS = (".", "?", "!", "…", "。", "？", "！")  # noqa: RUF001 - full-width ones end sentences too


@dataclass(frozen=True)
class WhisperOptions:
    """Options of a spec.

    Attributes:
        language: Such as `en`; detected by default.
        beam: Beam size.
        compute: Type of the weights: `int8`, `float32`, ...
    """

    language: str = ""
    beam: int = 5
    compute: str = "int8"


class WhisperReader:
    """See the module's docstring.

    Args:
        argument: `SIZE` or `FOLDER`, followed by options.

    Raises:
        SpecError: There is no such model, or an option is invalid.
        MissingExtraError: faster-whisper is not installed.
    """

    def __init__(self, argument: str) -> None:
        spec = parse_spec(f"whisper:{argument}")
        self._options = spec.read(WhisperOptions)
        if self._options.beam < 1:
            raise SpecError(f"whisper: beam must be at least 1, got {self._options.beam}.")
        folder = _folder(spec.argument)
        name = Path(spec.argument).name if Path(spec.argument).is_dir() else spec.argument
        self.maker = Maker(
            SPEECH,
            f"whisper:{name}",
            f"faster-whisper {version('faster-whisper')}",
            {
                **asdict(self._options),
                "weights": digest_folder(folder),
                "voice_detection": True,
                "pause_s": PAUSE_S,
            },
        )
        self._model = _load(folder, self._options)

    def hear(self, samples: np.ndarray, tick: Callable[[float], None] = lambda _: None, /) -> Heard:
        """Transcribe; one sentence per line. The same samples give the same lines."""
        if not len(samples):
            return Heard(())
        segments, info = self._model.transcribe(
            samples,
            language=self._options.language or None,
            beam_size=self._options.beam,
            temperature=0.0,  # higher values sample at random
            vad_filter=True,
            word_timestamps=True,
            condition_on_previous_text=False,
        )
        lines = tuple(sentences(_words(segments, tick)))
        return Heard(lines, info.language if lines else "")


def auto_reader(argument: str = "") -> WhisperReader:
    """`auto`: a model in the hub's cache, without a download.

    Raises:
        SpecError: There is no such model.
        MissingExtraError: faster-whisper is not installed.
    """
    size = next((size for size in AT_HAND if _cached(size)), None)
    if size is None:
        raise SpecError(
            "no Whisper model is in the cache. Fix: --speech whisper:small downloads one from the "
            "hub; --speech whisper:FOLDER uses your own."
        )
    return WhisperReader(f"{size},{argument}" if argument else size)


def sentences(words: Iterable[tuple[str, float, float]]) -> Iterator[TimedText]:
    """Join words with times into lines. A line ends with its sentence or at a long pause.

    Args:
        words: `(word with the space before it, start_s, end_s)`, in order.
    """
    text, start, end = "", 0.0, 0.0
    for word, word_start, word_end in words:
        if text and (word_start - end > PAUSE_S or word_end - start > LONGEST_S):
            yield TimedText(text.strip(), start, end)
            text = ""
        if not text:
            start = word_start
        text, end = text + word, max(word_end, start)
        if text.rstrip(_QUOTES).endswith(_ENDS) and not _abbreviated(text):
            yield TimedText(text.strip(), start, end)
            text = ""
    if text.strip():
        yield TimedText(text.strip(), start, end)


def _abbreviated(text: str) -> bool:
    """Whether the last dot belongs to a title or an initial, such as "Dr." or "J."."""
    last = text.split()[-1].lower() if text.split() else ""
    return last in ("mr.", "mrs.", "ms.", "dr.", "st.") or (
        len(last) == 2 and last[0].isalpha() and last != "i."
    )


def _words(
    segments: Iterable[Any], tick: Callable[[float], None]
) -> Iterator[tuple[str, float, float]]:
    for segment in segments:
        tick(segment.end)
        for word in segment.words or ():
            yield word.word, round(float(word.start), 3), round(float(word.end), 3)


def _library() -> Any:
    try:
        import faster_whisper
    except ImportError as error:
        raise MissingExtraError(error.name or "faster-whisper", "speech") from error
    return faster_whisper


def _cached(size: str) -> Path | None:
    """The folder of a size in the hub's cache, or None."""
    try:
        return Path(_library().download_model(size, local_files_only=True))
    except (OSError, ValueError):  # includes the hub's own errors
        return None


def _folder(name: str) -> Path:
    if not name:
        raise SpecError("expected whisper:SIZE or whisper:FOLDER, such as whisper:small.")
    library = _library()
    if Path(name).is_dir():
        return Path(name)
    if os.sep in name and not Path(name).exists() and name.startswith((".", "/", "~")):
        raise InputError(f"whisper: there is no folder {name!r}. Fix: check the path.")
    if found := _cached(name):
        return found
    try:
        return Path(library.download_model(name))
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise SpecError(
            f"whisper: the model {name!r} cannot be downloaded from the hub ({reason:.200}). Fix: "
            "pass the folder of a model, as whisper:FOLDER."
        ) from error


def _load(folder: Path, options: WhisperOptions) -> Any:
    try:
        return _library().WhisperModel(
            str(folder), compute_type=options.compute, local_files_only=True
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"whisper: the model in {folder} cannot be loaded ({error!s:.200}). Fix: pass a folder "
            "in CTranslate2 form, with model.bin and tokenizer.json."
        ) from error
