"""Fuzz targets: every input gives a result or one of our errors, and quickly.

`corpus/TARGET/` has inputs that once failed, and similar ones. Each file is run through its target,
and so are random damaged copies. Add each new failure as a file.
"""

import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pysubs2")
pytest.importorskip("webvtt")
pytest.importorskip("defusedxml")

from longvideo_env import load_dataset, tool
from longvideo_env.config import EnvConfig
from longvideo_env.errors import DataError, LongVideoEnvError
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.arguments import values_of
from longvideo_env.game.protocol.base import Action, Malformed, MalformedKind
from longvideo_env.media.subtitles import read_subtitles
from longvideo_env.tools.tool import as_tool

CORPUS = Path(__file__).parent / "corpus"
MOST_S = 20  # of one input; the largest here take 0.1 s on a quiet machine
PIECES = [
    b"<", b">", b"</", b"<answer>", b"</answer>", b"<search>", b"<think>", b"<tool_call>", b"{",
    b"}", b"[", b"]", b'"', b"\\", b"\\u", b"\\ud83d", b",", b":", b"\0", b"\n", b"\n\n", b"\r",
    b"-->", b"NaN", b"1e999", b"-1", b"true", b"null", b"9" * 400, b"\xff\xfe", b"\xc3", b"&#x0;",
    b"a1", b"name", b"arguments", b"options", b"answer", b"../", b"\xed\xa0\xbd", b"[" * 2000,
]  # fmt: skip


@tool
def zoom(request, clip: int, words: float = 9, where: list[str] | None = None) -> str:
    """Zooms in.

    Args:
        clip: which clip
        words: how many words
        where: places
    """
    return f"clip {clip}"


GAMES = {
    protocol: Game.from_config(EnvConfig(protocol=protocol, tools=["look", zoom]))
    for protocol in ("tags", "functions")
}
ZOOM = as_tool(zoom)


def parse(protocol: str, data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")  # bytes that are not text become surrogates
    parser = GAMES[protocol].protocol
    found = parser.parse(text, 5).outcome
    assert isinstance(found, Action | Malformed)
    if isinstance(found, Malformed):
        assert isinstance(found.kind, MalformedKind)
    elif found.choice is not None:
        assert 0 <= found.choice < 5
    parser.complete(text)
    parser.neutralise(text)


def tags(data: bytes, folder: Path) -> None:
    parse("tags", data)


def functions(data: bytes, folder: Path) -> None:
    parse("functions", data)


def arguments(data: bytes, folder: Path) -> None:
    values = values_of(ZOOM, data.decode("utf-8", "surrogateescape"))
    if isinstance(values, str):
        return
    checked = ZOOM.check(values)
    if isinstance(checked, str):
        return
    assert set(checked) <= {"clip", "words", "where"}
    assert type(checked["clip"]) is int
    if "words" in checked:
        assert math.isfinite(checked["words"])


def subtitles(data: bytes, folder: Path) -> None:
    for suffix in (".srt", ".vtt", ".json", ".xml"):
        path = folder / f"x{suffix}"
        path.write_bytes(data)
        try:
            found = read_subtitles(path)
        except DataError:
            continue
        assert str(found)
        for line in found.lines:
            assert 0 <= line.start_s <= line.end_s < math.inf


def questions(data: bytes, folder: Path) -> None:
    for name in ("x.json", "x.jsonl", "x.csv", "x.tsv"):
        path = folder / name
        path.write_bytes(data)
        try:
            found = load_dataset(str(path), skip_invalid=True)
        except LongVideoEnvError:
            continue
        for task in found:
            assert task.gold.answer is None or 0 <= task.gold.answer < len(task.question.options)


TARGETS = {
    "tags": tags, "functions": functions, "arguments": arguments, "subtitles": subtitles,
    "questions": questions,
}  # fmt: skip
ENTRIES = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_failed(entry: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    TARGETS[entry.parent.name](entry.read_bytes(), tmp_path)
    assert time.perf_counter() - start < MOST_S


def damaged(data: bytes, draw: np.random.Generator) -> bytes:
    """A copy with pieces replaced, deleted, inserted or doubled."""
    changed = bytearray(data[:4000])
    for _ in range(int(draw.integers(1, 8))):
        at = int(draw.integers(len(changed) + 1))
        end = at + (0, 0, 1, 5, 40)[int(draw.integers(5))]
        pieces = [*PIECES, draw.bytes(1), bytes(changed[:60])]
        changed[at:end] = pieces[int(draw.integers(len(pieces)))]
    return bytes(changed)


@pytest.mark.parametrize("rounds", [60, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", TARGETS)
def test_damaged_copies_of_what_once_failed(target: str, rounds: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    entries = [path.read_bytes() for path in ENTRIES if path.parent.name == target]
    for _ in range(rounds):
        TARGETS[target](damaged(entries[int(draw.integers(len(entries)))], draw), tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=20).map(b"".join))
def test_anything_at_all(target: str, tmp_path: Path, data: bytes) -> None:
    TARGETS[target](data, tmp_path)
