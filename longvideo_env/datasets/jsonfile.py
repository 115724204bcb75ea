"""Reads JSON from disk. Errors say where a file is broken.

The content decides whether a file is one JSON value or JSON Lines, because LongTVQA's `.jsonl`
files hold one array or object, and TVQA's hold one object per line.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TypeAlias, TypeGuard

from longvideo_env.datasets.rejects import MEND_ROW, Rejects
from longvideo_env.errors import DatasetNotFoundError, InvalidRowError, MalformedFileError

Rows: TypeAlias = list[tuple[int, object]]
"""Values with their positions from 1: places in an array, or line numbers in JSON Lines."""

# Besides JSONDecodeError, json raises ValueError (numbers too long) and RecursionError (deep
# nesting).
_JSON_ERRORS = (ValueError, RecursionError)
_MEND_FILE = "download or copy the file again, and compare its size with the original's."
MAX_FILE_BYTES = 900_000_000
_COMMA = re.compile(r"\s*,\s*")
_DECODER = json.JSONDecoder()
# Text that may follow the reported position when a file ends within a token.
_CUT_TOKEN = re.compile(r"u?[0-9a-f]{0,4}|\.?(?:e[+-]?)?|-?[a-z]*", re.IGNORECASE)


def is_clean_text(value: object) -> TypeGuard[str]:
    r"""Whether a value is text that can be written as UTF-8 (a lone `\ud83d` cannot)."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_object(path: Path) -> dict[str, object]:
    """Read a file that holds one JSON object.

    Raises:
        MalformedFileError: The file does not hold one JSON object.
    """
    text = read_text(path)
    try:
        value = json.loads(text)
    except _JSON_ERRORS as error:
        raise _malformed(path, text, error) from error
    if not isinstance(value, dict):
        raise MalformedFileError(
            f"expected one JSON object, got {_describe(value)}.", path, None, _MEND_FILE
        )
    return value


def read_rows(path: Path, rejects: Rejects) -> Rows:
    """Read a file of questions: one JSON array, or JSON Lines.

    In JSON Lines, a broken line is an invalid row. A broken last line is a truncated file, unless
    invalid rows are skipped.

    Raises:
        MalformedFileError: The file is neither, is truncated, or has no row.
        InvalidRowError: A line is broken, and invalid rows are not skipped.
    """
    text = read_text(path)
    first = text.lstrip()[:1]
    if first == "[":
        rows = _array_rows(path, text)
    elif first == "{":
        rows = _object_rows(path, text, rejects)
    else:
        found = f"it starts with {first!r}" if first else "the file is empty"
        raise MalformedFileError(
            f"expected a JSON array of questions, or one question a line; {found}.",
            path,
            None,
            "pass a file with questions, or download it again.",
        )
    if not rows and not rejects.errors:
        raise MalformedFileError("expected questions, got an empty array.", path, None, _MEND_FILE)
    return rows


def read_text(path: Path) -> str:
    """Read a file of UTF-8 text.

    Raises:
        DatasetNotFoundError: It cannot be read.
        MalformedFileError: It is not UTF-8, or it is too large.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise MalformedFileError(
                f"expected a file of at most {MAX_FILE_BYTES:,} bytes, got {size:,}.",
                path,
                None,
                "check that it is a file of questions or texts; cut larger sets into several.",
            )
        data = path.read_bytes()
    except OSError as error:
        raise DatasetNotFoundError(
            f"the file cannot be read ({error.strerror}).", path, None, "check its permissions."
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte order mark is dropped before decoding, so the offset does not count its bytes.
        offset = error.start + len(data) - len(error.object)
        raise MalformedFileError(
            f"expected UTF-8 text, got the byte 0x{data[offset]:02x} at byte offset {offset} of "
            f"{len(data)}.",
            path,
            None,
            "save the file as UTF-8.",
        ) from error


def _array_rows(path: Path, text: str) -> Rows:
    try:
        return list(enumerate(json.loads(text), start=1))
    except _JSON_ERRORS as error:
        raise _malformed(path, text, error) from error


def _object_rows(path: Path, text: str, rejects: Rejects) -> Rows:
    """Rows of a file that starts with an object: JSON Lines, or a single question."""
    failure: BaseException | None = None
    try:
        value, end = _DECODER.raw_decode(text, len(text) - len(text.lstrip()))
    except _JSON_ERRORS as error:
        failure = error
    else:
        if not text[end:].strip():
            return _single_row(path, value)
    rows: Rows = []
    broken: list[tuple[int, BaseException]] = []
    # Not splitlines(): JSON strings may contain U+2028 and other separators.
    lines = [(i, line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for number, line in lines:
        try:
            rows.append((number, json.loads(line)))
        except _JSON_ERRORS as error:
            broken.append((number, error))
    if failure is not None and not any(isinstance(value, dict) for _, value in rows):
        raise _malformed(path, text, failure) from failure
    for number, cause in broken:
        _reject_line(path, number, number == lines[-1][0], cause, rejects)
    return rows


def _single_row(path: Path, value: dict[str, object]) -> Rows:
    if not value.keys() & {"q", "qid", "question", "qa"}:
        raise MalformedFileError(
            f"expected a JSON array of questions, or one question a line, got {_describe(value)}.",
            path,
            None,
            "pass a file with questions. Subtitles and captions are found beside it.",
        )
    return [(1, value)]


def _reject_line(
    path: Path, number: int, last: bool, error: BaseException, rejects: Rejects
) -> None:
    problem = f"expected one JSON object on line {number}, but it is broken ({error})."
    if last and not rejects.skip_invalid:
        raise MalformedFileError(
            f"the file breaks off: {problem}", path, number, _MEND_FILE
        ) from error
    rejects.add(InvalidRowError(problem, path, number, MEND_ROW), error)


def _malformed(path: Path, text: str, error: BaseException) -> MalformedFileError:
    """The error for broken JSON. It says where the file breaks, and whether it was truncated."""
    if not isinstance(error, json.JSONDecodeError):
        return MalformedFileError(f"expected JSON, but {error}.", path, None, _MEND_FILE)
    body = text.rstrip()
    row = _row_of(text, error) if text.lstrip()[:1] == "[" else None
    unterminated = error.msg.startswith("Unterminated string")
    cut = unterminated or _CUT_TOKEN.fullmatch(body, error.pos) is not None
    if not body:
        problem = "expected JSON, the file is empty."
    elif cut and not error.msg.startswith("Extra data"):
        closing = "]" if row is not None else "}"
        problem = (
            f"the file is truncated: it ends at byte {len(text.encode())}, line "
            f"{body.count(chr(10)) + 1}, after {body[-20:]!r}, before its closing {closing!r}."
        )
    else:
        problem = f"expected JSON, but it breaks at line {error.lineno}, column {error.colno}: "
        problem += f"{error.msg}."
    return MalformedFileError(problem, path, row, _MEND_FILE)


def _row_of(text: str, error: json.JSONDecodeError) -> int | None:
    """Position, from 1, of the array element that is broken."""
    if error.msg.startswith("Extra data"):
        return None
    start = text.index("[") + 1
    row, at = 1, start + len(text[start:]) - len(text[start:].lstrip())
    while True:
        try:
            _, at = _DECODER.raw_decode(text, at)
        except _JSON_ERRORS:
            return row
        comma = _COMMA.match(text, at)
        if comma is None:
            return row
        row, at = row + 1, comma.end()


def _describe(value: object) -> str:
    if isinstance(value, dict):
        keys = ", ".join(repr(key) for key in list(value)[:3])
        return f"one object with {len(value)} keys" + (f" ({keys} ...)" if keys else "")
    if isinstance(value, list):
        return f"an array of {len(value)} elements"
    return f"{value!r:.60}"
