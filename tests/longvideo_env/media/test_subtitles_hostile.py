"""Hostile subtitle files: random text, damaged files, and files that are slow to read."""

import io
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

pysubs2 = pytest.importorskip("pysubs2")
pytest.importorskip("webvtt")

from longvideo_env.errors import DataError  # noqa: E402
from longvideo_env.media.captions.plain import plain_text  # noqa: E402
from longvideo_env.media.subtitles import read_subtitles  # noqa: E402

CASES = Path(__file__).parents[2] / "data" / "subtitles"
STEP_MS = {"microdvd": 40, "mpl2": 100, "tmp": 1000, "ass": 10, "ssa": 10}
FORMATS = ["srt", "vtt", "ass", "ssa", "microdvd", "mpl2", "tmp", "ttml", "json"]

WORD = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8) | st.sampled_from(
    ["1", "42", "00:00:01", "Ann:", "-", "<i>so</i>", "…", "(a)", "NOTE", "STYLE", "don't", "5,5"]
)
LINE = st.lists(WORD, min_size=1, max_size=5).map(" ".join)
TEXT = st.lists(LINE, min_size=1, max_size=3).map("\\N".join)
CUES = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 60), TEXT), min_size=1, max_size=8)


def write(path: Path, cues: list[tuple[int, int, str]], format_: str) -> list[tuple[str, int, int]]:
    """Write a file with pysubs2, and return the expected lines."""
    subs = pysubs2.SSAFile()
    at, expected = 0, []
    for wait, length, text in cues:
        start = (at + wait) * 1000
        at += wait + length + 1  # so that no caption rolls into the next
        subs.append(pysubs2.SSAEvent(start=start, end=at * 1000 - 1000, text=text))
        expected.append((plain_text(text.replace("\\N", "\n")), start, at * 1000 - 1000))
    fp = io.StringIO()
    subs.to_file(fp, format_, fps=25) if format_ == "microdvd" else subs.to_file(fp, format_)
    path.write_text(fp.getvalue(), encoding="utf-8", newline="\n")
    return expected


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=30, deadline=None)
@given(cues=CUES)
@example(cues=[(0, 1, "one\\N2\\N1999"), (0, 2, "1"), (0, 1, "2\\Nthree")])
def test_what_pysubs2_writes_comes_back(tmp_path_factory, format_: str, cues) -> None:
    assume(sum(wait + length + 1 for wait, length, _ in cues) < 9 * 3600)
    if format_ == "tmp":  # a text such as "42 ." alone may be frames of a time
        cues = [*cues, (0, 1, "words")]
    path = tmp_path_factory.mktemp("x") / f"x.{format_}"
    expected = write(path, cues, format_)
    found = read_subtitles(path)
    assert found.problems == ()
    got = [(x.text, round(x.start_s * 1000), round(x.end_s * 1000)) for x in found.lines]
    assert [(text, start) for text, start, _ in got] == [(t, s) for t, s, _ in expected]
    if format_ != "tmp":  # which holds no ends
        assert [end for *_, end in got] == [end for *_, end in expected]


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=300) | st.binary(max_size=300),
    st.sampled_from([".srt", ".vtt", ".ass", ".json", ".xml", ".smi", ".txt", ".sub"]),
    st.sampled_from(["", "WEBVTT\n\n", "1\n00:00:01,000 --> 00:00:02,000\n", "{1}{1}25\n{2}{3}a\n",
                     "<SAMI>", "<tt>", "[Events]\nDialogue: ", '{"segments": [', "[00:01] "]),
)  # fmt: skip
def test_no_content_breaks_the_reader(tmp_path_factory, content, suffix: str, head: str) -> None:
    path = tmp_path_factory.mktemp("x") / f"x{suffix}"
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path.write_bytes(head.encode() + data)
    try:
        found = read_subtitles(path)
    except DataError:
        return
    for line in found.lines:
        assert line.text == " ".join(line.text.split())
        assert 0 <= line.start_s <= line.end_s


MORE = {
    "x.json": b'{"segments": [{"start": 1.0, "end": 2.5, "text": "hi", "words": []}]}',
    "x.json3": b'{"events": [{"tStartMs": 1, "dDurationMs": 2, "segs": [{"utf8": "hi"}]}]}',
    "x.xml": b'<tt xmlns="http://www.w3.org/ns/ttml"><p begin="1s" end="2s">a</p></tt>',
    "x.smi": b"<SAMI><BODY><SYNC Start=1000><P>hi<SYNC Start=2000><P>&nbsp;</BODY></SAMI>",
    "x.sub": b"{1}{1}25\n{10}{20}hi|you\n{30}{40}bye\n",
    "x.txt": b"[00:01] hi\n[00:02 - 00:03] you\n",
}


@pytest.mark.slow
def test_thousands_of_damaged_files(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    files = {path.name: path.read_bytes() for path in CASES.iterdir()} | MORE
    pieces = [b"\n", b"\n\n", b"-->", b"<", b">", b"{", b"}", b"\\p1", b":", b",", b"9" * 30, b"\0",
              b"&#", b"\xe9", b"\xff\xfe", b"<v ", b"NaN", b"-1", b"1e999", b"[]"]  # fmt: skip
    for _ in range(2000):
        name = sorted(files)[draw.integers(len(files))]
        data = bytearray(files[name])
        for _ in range(draw.integers(1, 9)):
            at = draw.integers(len(data) + 1)
            cut = at + (0, 0, 1, 5, 40)[draw.integers(5)]
            data[at:cut] = [*pieces, draw.bytes(1), bytes(data[:40])][
                draw.integers(len(pieces) + 2)
            ]
        (tmp_path / name).write_bytes(data)
        with suppress(DataError):
            str(read_subtitles(tmp_path / name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [b"<script ", b"<script \n", b"<v.", b"{\\p1}", b"&#1", b"a: ", b"2\n\n", b"a\n\n", b" "],
)
@pytest.mark.parametrize(
    "head", [b"1\n00:00:01,000 --> 00:00:02,000\n", b"WEBVTT\n\n00:01.000 --> 00:02.000\n"]
)
def test_the_time_is_linear_in_the_size(tmp_path: Path, unit: bytes, head: bytes) -> None:
    path = tmp_path / "x.srt"
    took = []
    for size in (2_000_000, 17_000_000) if b"script" in unit else (1_000_000, 8_000_000):
        path.write_bytes(head + unit * (size // len(unit)))
        start = time.process_time()
        with suppress(DataError):
            read_subtitles(path)
        took.append(time.process_time() - start)
    assert took[1] < 60
    assert took[1] < 25 * took[0] + 1
