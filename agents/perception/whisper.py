"""Speech to lines with Whisper: `whisper:SIZE` or `whisper:FOLDER` (library faster-whisper).

    --speech whisper:small                  # from the hub, or its cache
    --speech whisper:models/tiny.en,language=en

Stretches without a voice are left out first, because Whisper invents words for music. Words are
gathered into sentences, so that a line is cut where a sentence ends, not where a window of 30
seconds does.
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
"""The sizes that `auto` looks for in the cache of the hub, the most fitting for a laptop first."""

PAUSE_S = 1.5
LONGEST_S = 20.0
_QUOTES = "\"'”’)"  # noqa: RUF001 - curly ones close quotations
_ENDS = (".", "?", "!", "…", "。", "？", "！")  # noqa: RUF001 - full-width ones end sentences too


@dataclass(frozen=True)
class WhisperOptions:
    """What a spec may set.

    Attributes:
        language: Such as `en`; found by default.
        beam: Hypotheses that are kept while decoding.
        compute: How weights are held: `int8`, `float32`, ...
    """

    language: str = ""
    beam: int = 5
    compute: str = "int8"


class WhisperReader:
    """See the module's docstring.

    Args:
        argument: `SIZE` or `FOLDER`, with options behind it.

    Raises:
        SpecError: There is no such model, or an option has no meaning.
        MissingExtraError: faster-whisper is not installed.
    """

    def __init__(self, argument: str) -> None:
        spec = parse_spec(f"whisper:{argument}")
        self._options = spec.read(WhisperOptions)
        if self._options.beam < 1:
            raise SpecError(f"whisper: expected beam of 1 or more, got {self._options.beam}.")
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
        """What is said, a sentence a line. The same samples give the same lines."""
        if not len(samples):
            return Heard(())
        segments, info = self._model.transcribe(
            samples,
            language=self._options.language or None,
            beam_size=self._options.beam,
            temperature=0.0,  # others would draw at random
            vad_filter=True,
            word_timestamps=True,
            condition_on_previous_text=False,
        )
        lines = tuple(sentences(_words(segments, tick)))
        return Heard(lines, info.language if lines else "")


def auto_reader(argument: str = "") -> WhisperReader:
    """`auto`: a model that is at hand in the cache of the hub, and needs no download.

    Raises:
        SpecError: There is none.
        MissingExtraError: faster-whisper is not installed.
    """
    size = next((size for size in AT_HAND if _cached(size)), None)
    if size is None:
        raise SpecError(
            "no Whisper model is at hand. Fix: --speech whisper:small takes one from the hub, "
            "--speech whisper:FOLDER one of your own."
        )
    return WhisperReader(f"{size},{argument}" if argument else size)


def sentences(words: Iterable[tuple[str, float, float]]) -> Iterator[TimedText]:
    """Words with their times as lines: each ends with its sentence, or at a long pause.

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
    """Whether the last dot belongs to a title or an initial: "Dr.", "J."."""
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
    """The folder of a size in the cache of the hub, or None."""
    try:
        return Path(_library().download_model(size, local_files_only=True))
    except (OSError, ValueError):  # the hub's own errors are among these
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
            f"whisper: the model {name!r} cannot be fetched from the hub ({reason:.200}). "
            "Fix: pass the folder of a model, as whisper:FOLDER."
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
