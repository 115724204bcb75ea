"""Decodes a subtitle file: finds its encoding.

UTF-8, UTF-16 and UTF-32 can be recognised. For other encodings, chardet compares the frequency of
bytes in each language. If a short file fits two encodings, or one file mixes two, it is refused,
because a wrong guess gives wrong words.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import chardet

from longvideo_env.errors import MalformedFileError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 200_000
_CANDIDATES = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258",
    "cp855", "cp866", "cp874", "koi8-r", "koi8-u", "iso8859-1", "iso8859-15", "iso8859-2",
    "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "gb18030", "big5hkscs",
    "cp932", "euc_jis_2004", "cp949", "euc_kr", "iso2022_jp_2", "iso2022_kr",
)  # fmt: skip
"""Encodings used for subtitles. Rare encodings that look alike are left out."""
_LARGER = {"iso8859-1": "cp1252", "iso8859-8": "cp1255", "iso8859-9": "cp1254", "euc_kr": "cp949"}
"""Encoding -> an encoding that extends it: programs name the smaller and write the larger one."""
_LIKE_UTF8 = {"cp866", "cp874", "gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949"}
"""Encodings in which some pairs of bytes are also UTF-8 characters."""
_LATIN = {
    "cp1252", "cp1250", "cp1254", "cp1257", "cp1258", "iso8859-1", "iso8859-15", "iso8859-2",
    "iso8859-9",
}  # fmt: skip
_FEW_BYTES, _CLEAR = 6, 0.5
"""With few non-ASCII bytes, a guess counts from this share of the best guess's confidence."""
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")


def decode(data: bytes, told: str | None, path: Path) -> tuple[str, str, list[str]]:
    """The text, its encoding, and what could not be decoded.

    Raises:
        MalformedFileError: The given encoding is wrong, or none was found.
    """
    try:
        if told is not None:
            return data.decode(told).removeprefix("\ufeff"), told, []
        return _find_out(data)
    except (UnicodeError, LookupError) as error:
        raise MalformedFileError(
            f"expected text in {told or 'a known encoding'}, but {error!s:.200}.",
            path,
            None,
            "save the file as UTF-8, or give its encoding: --encoding cp1252.",
        ) from error


def _find_out(data: bytes) -> tuple[str, str, list[str]]:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            if encoding == "utf-8-sig":
                return _utf8(data[3:])
            return data[: len(data) // 2 * 2].decode(encoding), encoding, []
    if b"\x1b$" in data:
        return _legacy(data)
    if data.count(0) * 2 > len(data):
        encoding = "utf-32-le" if data[3::4].count(0) >= data[::4].count(0) else "utf-32-be"
        return data[: len(data) // 4 * 4].decode(encoding), encoding, []
    if b"\0" in data:
        # In UTF-16, digits and line ends contain a zero byte, in any language.
        encoding = "utf-16-le" if data[1::2].count(0) >= data[::2].count(0) else "utf-16-be"
        if data.count(0) * 10 > len(data):
            return data[: len(data) // 2 * 2].decode(encoding), encoding, []
    return _utf8(data)


def _utf8(data: bytes) -> tuple[str, str, list[str]]:
    try:
        return data.decode("utf-8"), "utf-8", []
    except UnicodeDecodeError:
        text = data.decode("utf-8", errors="replace")
    bad = text.count("\ufffd")
    good = sum(c > "\x7f" for c in text) - bad
    at_end = bad == 1 and text.endswith("\ufffd") and data[-1] > 0x7F and good
    if at_end or bad * 3 <= good:
        line = text.count("\n", 0, text.index("\ufffd")) + 1
        return text, "utf-8", [f"line {line}: {bad:,} characters here and below are not UTF-8"]
    return _legacy(data, utf8_in_part=good * 10 > bad)


def _legacy(data: bytes, *, utf8_in_part: bool = False) -> tuple[str, str, list[str]]:
    """Decode with one of the encodings from before UTF-8.

    Raises:
        UnicodeError: No encoding fits, or two fit equally well and differ.
    """
    guesses = _guesses(data)
    if not guesses:
        raise UnicodeError("it is neither UTF-8 nor UTF-16, and fits no older encoding")
    text, encoding, sure = guesses[0]
    if utf8_in_part and encoding not in _LIKE_UTF8:
        # With either encoding, some words would be wrong.
        raise UnicodeError(f"it is UTF-8 in part and {encoding} in part")
    if sum(b > 0x7F for b in data) < _FEW_BYTES:
        # A wrong accent is a small risk; a wrong script gives another text.
        for _, other, likely in guesses[1:]:
            if likely > _CLEAR * sure and not {encoding, other} <= _LATIN:
                raise UnicodeError(f"it may be {encoding} or {other}")
    return text, encoding, []


def _guesses(data: bytes) -> list[tuple[str, str, float]]:
    """Possible texts with encoding and confidence, best first."""
    # Times and numbers do not depend on the language.
    lines = [line for line in data.split(b"\n") if any(b > 0x7F or b == 0x1B for b in line)]
    found: dict[str, tuple[str, str, float]] = {}
    for guess in chardet.detect_all(
        b"\n".join(lines)[:_SAMPLE],
        ignore_threshold=True,
        compat_names=False,
        include_encodings=_CANDIDATES,
        max_bytes=_SAMPLE,
    ):
        name = guess["encoding"] or ""
        for encoding in (_LARGER.get(name, name), name):
            try:
                text = data.decode(encoding)
            except (UnicodeError, LookupError):
                continue
            if not _CONTROLS.search(text):
                found.setdefault(text, (text, encoding, guess["confidence"]))
                break
    return sorted(found.values(), key=lambda item: -item[2])
