"""From the bytes of a file of subtitles to its text: which encoding it is written in.

UTF-8 and UTF-16 say themselves what they are. Of the others, every one that can read the file is
scored by how usual the characters are that it gives, and charset-normalizer decides between equals.
Where two different texts stay possible the file is refused: a wrong guess makes wrong words.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from charset_normalizer import from_bytes

from longvideo_env.errors import MalformedFileError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 20_000
_MARGIN = 0.1

_SIGNS = "“”‘’„‚‹›«»–—…·•°¿¡€£§©®™♪\u00a0"  # noqa: RUF001
_ALPHABETS = {
    "cp1252": (
        "àâæçéèêëîïôœùûüÿ", "äöüßéà", "áéíñóúüªº", "áâãàçéêíóôõúü", "àèéìíòóùú", "åäöæøéüð",
        "áéíóúýþæöð", "éëïöüóáè", "àéèíïóòúüç",
    ),
    "cp1250": (
        "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž",
    ),
    "cp1251": ("абвгдеёжзийклмнопрстуфхцчшщъыьэюяіїєґўјљњћђџ№",),
}  # fmt: skip
_MIXED = re.compile("[A-Za-z][\u0400-\u04ff]|[\u0400-\u04ff][A-Za-z]")
"""No word is written in two scripts, so text with such words is not Cyrillic."""

_COMMON = {
    "gb18030": "的一是不了我你他她在有这那好们吗吧就说会要去来什么没人到都很",
    "big5hkscs": "的一是不了我你他她在有這那好們嗎吧就說會要去來什麼沒人到都很",
    "cp949": "이다는에가고하지을를은도나그어사의로자아기대거니만있해서야",
}


def decode(data: bytes, told: str | None, path: Path) -> tuple[str, str, list[str]]:
    """The text, its encoding, and what could not be read of it.

    Raises:
        MalformedFileError: The encoding was told wrongly, or it cannot be found out.
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
            "save the file as UTF-8, or say its encoding: --encoding cp1252.",
        ) from error


def _find_out(data: bytes) -> tuple[str, str, list[str]]:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            if encoding == "utf-8-sig":
                return _utf8(data[3:])
            return data[: len(data) // 2 * 2].decode(encoding), encoding, []
    if b"\0" in data:
        # Digits and line ends have a zero byte in UTF-16, in any language.
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
    # Two encodings in one file: whatever is taken, some words come out wrong.
    return _legacy(data, mixed=good * 10 > bad)


def _legacy(data: bytes, mixed: bool) -> tuple[str, str, list[str]]:
    """One of the encodings from before UTF-8.

    Raises:
        UnicodeError: None fits, or two fit equally well and differ.
    """
    texts: dict[str, str] = {}
    for encoding in (
        *(() if mixed else ("cp1252", "cp1250")),
        "cp1251",
        "gb18030",
        "big5hkscs",
        "cp932",
        "cp949",
    ):
        try:
            texts[encoding] = data.decode(encoding)
        except UnicodeDecodeError:
            continue
    scores = {encoding: _score(text, encoding) for encoding, text in texts.items()}
    top = max(scores.values(), default=0.0)
    best = [name for name, score in scores.items() if score >= top - _MARGIN]
    if top < 0.7:
        raise UnicodeError("it is none of UTF-8, UTF-16, " + ", ".join((*_ALPHABETS, *_COMMON)))
    if len({texts[name] for name in best}) > 1:
        best = _less_chaotic(data, best)
    if len({texts[name] for name in best}) > 1:
        raise UnicodeError(f"it may be {' or '.join(best)}")
    return texts[best[0]], best[0], []


def _less_chaotic(data: bytes, among: list[str]) -> list[str]:
    lines = b"\n".join(x for x in data.split(b"\n") if any(b > 0x7F for b in x))[:_SAMPLE]
    chaos = {
        name: match.chaos
        for match in from_bytes(lines, cp_isolation=among, threshold=1.0)
        for name in among
        if match.encoding == name or name in match.could_be_from_charset
    }
    least = min(chaos.values(), default=0.0)
    return [name for name in among if chaos.get(name, 1.0) <= least + 0.02] or among


def _score(text: str, encoding: str) -> float:
    """How usual the characters outside ASCII are: 0 to 1, and to 2 where they are most frequent."""
    chars = [c for c in text if c > "\x7f"][:_SAMPLE]
    if not chars or (encoding == "cp1251" and _MIXED.search(text)):
        return 0.0
    if encoding in _ALPHABETS:
        chars = [c.lower() for c in chars]
        return max(sum(c in a or c in _SIGNS for c in chars) / len(chars) for a in
                   _ALPHABETS[encoding])  # fmt: skip
    common = _COMMON.get(encoding, "")
    usual = sum(_is_usual(c, encoding) for c in chars)
    frequent = sum(c in common or (encoding == "cp932" and "\u3040" < c < "\u30ff") for c in chars)
    return (usual + frequent) / len(chars)


def _is_usual(char: str, encoding: str) -> bool:
    """Whether a character lies in the part of its table that everyday text is written with."""
    table, first, last = {
        "gb18030": ("gb2312", 0xB0, 0xD7),
        "big5hkscs": ("big5", 0xA4, 0xC6),
        "cp932": ("cp932", 0x88, 0x97),
        "cp949": ("euc_kr", 0xB0, 0xC8),
    }[encoding]
    try:
        code = char.encode(table)
    except UnicodeEncodeError:
        return False
    signs = (0x81, 0x82, 0x83) if encoding == "cp932" else (0xA1, 0xA2, 0xA3)
    return len(code) == 2 and (first <= code[0] <= last or code[0] in signs)
