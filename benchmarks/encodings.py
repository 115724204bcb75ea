"""Measure how often subtitles in encodings older than UTF-8 are read correctly.

    git clone --depth 1 REPOSITORY captions      # folders named after languages, with *.srt in them
    python benchmarks/encodings.py captions

For each language 15 random files are written in the encodings that the language used before UTF-8:
whole, and cut to their first eight and two captions. Each file is then read without a given
encoding. It counts as right if every letter is the same.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path

import numpy as np

from longvideo_env.errors import MalformedFileError
from longvideo_env.media.captions.decoding import decode

ENCODINGS = {
    "french": ("cp1252",), "spanish": ("cp1252",), "german": ("cp1252",), "portuguese": ("cp1252",),
    "italian": ("cp1252",), "swedish": ("cp1252",), "polish": ("cp1250", "iso8859_2"),
    "czech": ("cp1250", "iso8859_2"), "hungarian": ("cp1250",), "romanian": ("cp1250",),
    "russian": ("cp1251", "koi8_r"), "ukrainian": ("cp1251",), "bulgarian": ("cp1251",),
    "serbian": ("cp1251", "cp1250"), "greek": ("cp1253",), "turkish": ("cp1254",),
    "hebrew": ("cp1255",), "arabic": ("cp1256",), "persian": ("cp1256",), "thai": ("cp874",),
    "vietnamese": ("cp1258",), "chinese": ("gb18030", "big5"), "japanese": ("cp932", "euc_jp"),
    "korean": ("cp949",), "lithuanian": ("cp1257",), "estonian": ("cp1257",),
}  # fmt: skip
WHOLE = 10**6
CUTS = (2, 8, WHOLE)
FILES = 15
_LOST = 0.03
"""If a file loses a larger share of its letters in an encoding, it was never written in it."""


def letters(text: str) -> str:
    """The letters of a text."""
    return "".join(filter(str.isalpha, text))


def outcome(text: str, encoding: str) -> str | None:
    """`right`, `refused` or `wrong`. None if the encoding cannot hold the text, or it is ASCII."""
    data = text.encode(encoding, "ignore")
    truth = letters(data.decode(encoding))
    if truth.isascii() or len(truth) < (1 - _LOST) * len(letters(text)):
        return None
    try:
        found = decode(data, None, Path("x.srt"))[0]
    except MalformedFileError:
        return "refused"
    return "right" if letters(found) == truth else "wrong"


def main() -> int:
    """Print a line for each cut, and the sum."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rng = np.random.default_rng(0)
    counts: dict[int, Counter[str]] = {cut: Counter() for cut in CUTS}
    languages = set()
    for language, encodings in ENCODINGS.items():
        files = sorted(path for path in folder.rglob("*.srt") if path.parent.name == language)
        for path in (files[i] for i in rng.permutation(len(files))[:FILES]):
            captions = re.split(r"\n\s*\n", path.read_text("utf-8-sig", "ignore").replace("\r", ""))
            for cut in CUTS:
                for encoding in encodings:
                    if came := outcome("\n\n".join(captions[:cut]), encoding):
                        counts[cut][came] += 1
                        languages.add(language)
    for cut, found in counts.items():
        print("whole" if cut == WHOLE else f"first {cut}", dict(found))
    total: Counter[str] = sum(counts.values(), Counter())
    print(f"{total.total():,} files in {len(languages)} languages: {dict(total)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
