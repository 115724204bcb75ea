"""Removes secrets, such as API keys, from text.

    keep_secret(key)                 # from now on
    cleanse("bad key sk-abc...")     # "bad key [key]"

A secret is found literally, percent-encoded, with JSON, HTML or Python escapes, in base64, in hex,
broken over lines, and in pieces of at least `PIECE` characters, such as a key split over headers.
From the first secret on, this process's log records and tracebacks are cleansed, too. Shorter
pieces and nested encodings are not found.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from typing import Any

MARK = "[key]"
PIECE = 8
"""Length of the shortest piece of a secret that is removed."""

_PLACEHOLDERS = frozenset({"dummy", "empty", "local", "none", "null", "test", "unused"})
"""Placeholder keys for servers without keys. They also occur in ordinary text."""

_ESCAPE = re.compile(
    r"%([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|&#[xX]([0-9a-fA-F]{1,4});"
    r"|&#([0-9]{1,5});|\\([/\"'])"
)
_WORD, _NOT_WORD = re.compile(r"[a-z0-9]"), re.compile(r"[^a-z0-9]+")
_VARIABLES = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")


class _Book:
    """All secrets of this process, as sets for fast lookup."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.short: list[str] = []
        self.pieces: set[str] = set()
        self.joined: list[str] = []
        self.lock = threading.Lock()
        self.guarded = False

    def add(self, secret: str) -> None:
        with self.lock:
            if secret in self.secrets:
                return
            self.secrets.add(secret)
            if len(secret) < PIECE:
                self.short = [*self.short, secret]
            more = {form[i : i + PIECE] for form in _forms(secret) for i in range(_n_pieces(form))}
            joined = _NOT_WORD.sub("", _lowered(secret))
            if len(joined) >= PIECE:
                self.joined = [*self.joined, joined]
            # Replaced, not changed, so that readers are not disturbed.
            self.pieces = self.pieces | more


_BOOK = _Book()


def keep_secret(secret: str) -> None:
    """Remove a text from all output from now on. Placeholders such as `EMPTY` are ignored."""
    if len(secret) < 4 or secret.lower() in _PLACEHOLDERS:
        return
    _BOOK.add(secret)
    _guard()


def keep_secrets_of_environment() -> None:
    """Remove keys that libraries read from the environment."""
    for name in _VARIABLES:
        keep_secret(os.environ.get(name, ""))


def cleanse(text: str) -> str:
    """A text with all known secrets removed, in linear time."""
    if not _BOOK.secrets or not text:
        return text
    for secret in _BOOK.short:
        text = text.replace(secret, MARK)
    plain, starts = _decoded(text)
    found = [*_pieces_in(plain, _BOOK.pieces), *_broken_in(plain, _BOOK.joined)]
    spans = [(starts[first], starts[last]) for first, last in found]
    # A character before a key may look like an escape, such as "%" before "00".
    if not isinstance(starts, range):
        spans += _broken_in(_lowered(text), _BOOK.joined)
    if not spans:
        return text
    out, at = [], 0
    for start, end in _merged(spans):
        out += [text[at:start], MARK]
        at = end
    return "".join([*out, text[at:]])


def cleanse_all(value: Any) -> Any:
    """Plain JSON values with every text cleansed, including the keys of mappings."""
    if not _BOOK.secrets:
        return value
    if isinstance(value, str):
        return cleanse(value)
    if isinstance(value, dict):
        return {cleanse_all(name): cleanse_all(one) for name, one in value.items()}
    if isinstance(value, list):
        return [cleanse_all(one) for one in value]
    return value


def _forms(secret: str) -> Iterable[str]:
    """The secret in lower case: literal, in hex, and in base64 at each of the three alignments."""
    data = secret.encode()
    yield _lowered(secret)
    yield data.hex()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        # Skip characters that also contain bits of the text around the secret.
        known = coded[(0, 2, 3)[before] : len(coded) - ((len(data) + before) % 3 > 0)]
        yield known.lower()
        yield known.lower().replace("+", "-").replace("/", "_")


def _n_pieces(form: str) -> int:
    return max(0, len(form) - PIECE + 1)


def _lowered(text: str) -> str:
    """The text in lower case, with the same length."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(c.lower() if c.isascii() else c for c in text)


def _decoded(text: str) -> tuple[str, Any]:
    """The text in lower case without escapes, and the original position of each character."""
    if not _ESCAPE.search(text):
        return _lowered(text), range(len(text) + 1)
    out: list[str] = []
    starts: list[int] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        out.append(text[at : match.start()])
        starts += range(at, match.start())
        percent, u, x, html_hex, html, escaped = match.groups()
        code = percent or u or x or html_hex
        number = int(code, 16) if code else int(html) if html else ord(escaped)
        out.append(chr(number) if number < 0xD800 else "?")
        starts.append(match.start())
        at = match.end()
    out.append(text[at:])
    starts += range(at, len(text) + 1)
    return _lowered("".join(out)), starts


def _pieces_in(text: str, pieces: set[str]) -> Iterable[tuple[int, int]]:
    for i in range(len(text) - PIECE + 1):
        if text[i : i + PIECE] in pieces:
            yield i, i + PIECE


def _broken_in(text: str, joined: Iterable[str]) -> Iterable[tuple[int, int]]:
    """Find secrets with spaces, quotes or other characters in between."""
    words = _NOT_WORD.sub("", text)
    found = [secret for secret in joined if secret in words]
    places = [match.start() for match in _WORD.finditer(text)] if found else []
    for secret in found:
        at = words.find(secret)
        while at >= 0:
            yield places[at], places[at + len(secret) - 1] + 1
            at = words.find(secret, at + len(secret))


def _merged(spans: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    start = end = -1
    for first, last in sorted(spans):
        if first > end:
            if end > 0:
                yield start, end
            start = first
        end = max(end, last)
    yield start, end


class _CleanRecord(logging.LogRecord):
    """A log record without secrets in message and traceback, for all handlers."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = cleanse("".join(traceback.format_exception(*self.exc_info))).rstrip()

    def getMessage(self) -> str:
        return cleanse(super().getMessage())


def _guard() -> None:
    """Cleanse this process's log records and tracebacks. Installed once."""
    if _BOOK.guarded:
        return
    _BOOK.guarded = True
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(_CleanRecord)
    main, thread = sys.excepthook, threading.excepthook

    def shown(kind: Any, error: Any, trace: Any) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        clean = cleanse(text)
        if clean == text:
            main(kind, error, trace)
        else:
            sys.stderr.write(clean)

    def shown_of_thread(args: Any) -> None:
        text = "".join(
            traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        )
        clean = cleanse(text)
        if clean == text:
            thread(args)
        else:
            sys.stderr.write(f"Exception in thread {args.thread and args.thread.name}:\n{clean}")

    sys.excepthook, threading.excepthook = shown, shown_of_thread
