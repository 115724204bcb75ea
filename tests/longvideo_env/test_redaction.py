import base64
import html
import json
import logging
import subprocess
import sys
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from longvideo_env import redaction
from longvideo_env.redaction import PIECE, cleanse, cleanse_all, keep_secret

KEYS = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_+/=.", min_size=16
).filter(
    lambda key: len(set(key)) > 7  # as a key is drawn; "000..." stands in any number
)
PROSE = st.text(st.sampled_from(" ,;:{}\n\"'<>%&\\é漢0123zq"), max_size=40)


@pytest.fixture(autouse=True)
def _own_book(monkeypatch):
    """Give each test its own secrets."""
    monkeypatch.setattr(redaction, "_BOOK", redaction._Book())
    factory, main = logging.getLogRecordFactory(), sys.excepthook
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook = main


def in_base64(key, before):
    return base64.b64encode(b"x" * before + key.encode() + b"tail").decode()


FORMS = {
    "as it is": lambda key, n: key,
    "quoted": lambda key, n: quote(key, safe=""),
    "quoted in lower case": lambda key, n: "".join(f"%{byte:02x}" for byte in key.encode()),
    "base64": in_base64,
    "base64 for addresses": lambda key, n: in_base64(key, n).replace("+", "-").replace("/", "_"),
    "hex": lambda key, n: key.encode().hex().upper(),
    "JSON": lambda key, n: "".join(f"\\u{ord(c):04x}" for c in key),
    "slashes escaped": lambda key, n: json.dumps(key).replace("/", "\\/"),
    "HTML": lambda key, n: "".join(f"&#x{ord(c):x};" for c in html.escape(key)),
    "folded": lambda key, n: "\r\n ".join(key[i : i + 5] for i in range(0, len(key), 5)),
    "over headers": lambda key, n: "".join(
        f"X-Part-{i}: {key[i : i + PIECE + n]}\r\n" for i in range(0, len(key), PIECE + n)
    ),
}


def readings(text):
    """All decodings of a text that a reader could try, in lower case."""
    yield text
    for undo in (html.unescape, _unquoted, _unescaped):
        yield undo(text)
    yield "".join(c for c in text if c.isalnum())


def _unquoted(text):
    from urllib.parse import unquote

    return unquote(text)


def _unescaped(text):
    import re

    return re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), text).replace("\\/", "/")


@example(key="0000000001234567", form="folded", before="%", behind="", n=0)
@given(
    key=KEYS, form=st.sampled_from(sorted(FORMS)), before=PROSE, behind=PROSE, n=st.integers(0, 2)
)
def test_no_piece_of_a_key_is_left_in_any_form(key, form, before, behind, n):
    keep_secret(key)
    text = before + FORMS[form](key, n) + behind
    clean = cleanse(text)
    for reading in readings(clean):
        pieces = (key[i : i + PIECE] for i in range(len(key) - PIECE + 1))
        left = [p for p in pieces if p in reading and p not in before and p not in behind]
        assert not left, (form, clean)
    if form.startswith("base64"):
        coded = FORMS[form](key, n)
        inside = coded[4 : len(key)]
        assert not inside or inside not in clean
    if form == "hex":
        assert key.encode().hex()[:20] not in clean.lower()


@given(text=st.text(max_size=300))
def test_text_without_a_key_is_left_alone(text):
    keep_secret("sk-Zq81-kkPw-77xyzzy-Qwv9")
    assert cleanse(text) == text


def test_what_stands_around_a_key_is_kept():
    keep_secret("sk-abcdef-1234567890")
    said = "Incorrect API key provided: sk-abcdef-1234567890. See https://host/keys%20of"
    assert cleanse(said) == "Incorrect API key provided: [key]. See https://host/keys%20of"


@pytest.mark.parametrize("word", ["EMPTY", "none", "dummy", "abc", ""])
def test_placeholders_are_no_secrets(word):
    keep_secret(word)
    assert cleanse(f"the room is {word}.") == f"the room is {word}."


def test_short_keys_are_cut_whole():
    keep_secret("sk-1234")
    assert cleanse("bad key sk-1234!") == "bad key [key]!"


def test_every_text_of_a_reply_is_cleansed():
    keep_secret("sk-abcdef-1234567890")
    reply = {"a": ["sk-abcdef-1234567890", 1, None], "sk-abcdef-1234567890": {"b": 2.5}}
    assert cleanse_all(reply) == {"a": ["[key]", 1, None], "[key]": {"b": 2.5}}


def test_megabytes_take_linear_time():
    for i in range(20):
        keep_secret(f"sk-{i:04d}-abcdefghijklmnopqrstuvwxyz0123456789")
    start = time.perf_counter()
    cleanse("%41bcdefg" * 200_000)
    assert time.perf_counter() - start < 10


def test_log_records_and_their_tracebacks_are_cleansed(caplog):
    keep_secret("sk-abcdef-1234567890")
    log = logging.getLogger("some.library")
    with caplog.at_level(logging.DEBUG):
        log.debug("headers: %s", {"Authorization": "Bearer sk-abcdef-1234567890"})
        try:
            raise ValueError("refused sk-abcdef-1234567890")
        except ValueError:
            log.exception("it failed")
    assert "abcdef" not in caplog.text
    assert "refused [key]" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("thread", [False, True])
def test_tracebacks_are_cleansed(thread):
    fails = "def fail():\n    raise ValueError('refused %73k-abcdef-' + '1234567890')\n"
    start = "threading.Thread(target=fail, name='worker').start()" if thread else "fail()"
    code = (
        "import threading\nfrom longvideo_env.redaction import keep_secret\n"
        f"keep_secret('sk-abcdef-' + '1234567890')\n{fails}{start}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "refused [key]" in done.stderr
    assert "sk-abcdef-1234567890" not in done.stderr
