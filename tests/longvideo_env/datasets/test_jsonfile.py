import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.datasets.jsonfile import is_clean_text, read_object, read_rows
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import DatasetNotFoundError, InvalidRowError, MalformedFileError

ROWS = [{"qid": 1, "q": 'a "x" \\ 😀 é', "ts": [1.5e-7, None]}, {"qid": 2, "ok": True}]


def rows_of(path: Path, content: str | bytes, skip: bool = False) -> list[tuple[int, object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_rows(path, Rejects(skip))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "questions.jsonl"


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_an_array_is_read_whatever_the_suffix(path: Path, indent: int | None, bom: bytes) -> None:
    content = bom + json.dumps(ROWS, indent=indent).encode()
    assert rows_of(path, content) == [(1, ROWS[0]), (2, ROWS[1])]


def test_json_lines_are_read_with_line_numbers(path: Path) -> None:
    first, second = (json.dumps(row, ensure_ascii=False) for row in ROWS)
    assert rows_of(path, f"\n{first}\r\n\n{second}\n") == [(2, ROWS[0]), (4, ROWS[1])]


def test_line_separators_within_strings_do_not_end_a_line(path: Path) -> None:
    row = {"q": "a\u2028b\x85c"}
    lines = "\n".join([json.dumps(row, ensure_ascii=False)] * 2)
    assert rows_of(path, lines) == [(1, row), (2, row)]


def test_one_question_alone_is_a_row(path: Path) -> None:
    assert rows_of(path, json.dumps(ROWS[0], indent=1)) == [(1, ROWS[0])]


@pytest.mark.parametrize("ascii_only", [True, False])
def test_every_cut_of_an_array_is_told_as_truncated(path: Path, ascii_only: bool) -> None:
    text = json.dumps(ROWS, indent=1, ensure_ascii=ascii_only)
    for end in range(1, len(text)):
        with pytest.raises(MalformedFileError, match="the file is truncated: it ends at") as error:
            rows_of(path, text[:end])
        assert error.value.row == (1 if end <= text.index("},") + 1 else 2)
        assert f"at byte {len(text[:end].encode())}, line" in str(error.value)


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        ("", None, "the file is empty"),
        (" \n", None, "the file is empty"),
        ("[]", None, "an empty array"),
        ("null", None, "it starts with 'n'"),
        ('"text"', None, "it starts with '\"'"),
        ('{"s05e02": "subtitles"}', None, "one object with 1 keys"),
        ('[{"q": 1},]', 2, "breaks at line 1, column 11"),
        ('[{"q": 1} {"q": 2}]', 1, "breaks at line 1, column 11"),
        ('[{"q": 1}][{"q": 2}]', None, "Extra data"),
        ("[" * 100_000, None, "expected JSON"),
        ("[" + "1" * 5000 + "]", None, "expected JSON"),
        ('{"q": 1,\n"qid"', None, "the file is truncated"),
    ],
)
def test_malformed_files_say_where(path: Path, content: str, row: int | None, message: str) -> None:
    with pytest.raises(MalformedFileError, match=message) as error:
        rows_of(path, content)
    assert error.value.file == path
    assert error.value.row == row
    assert error.value.mend


@pytest.mark.parametrize(
    ("content", "offset"),
    [(b'[{"q": "caf\xe9"}]', 11), (b'\xef\xbb\xbf[{"q": "caf\xe9"}]', 14), (b"\xff\xfe[\x00", 0)],
)
def test_other_encodings_are_told_with_the_byte(path: Path, content: bytes, offset: int) -> None:
    with pytest.raises(MalformedFileError, match=f"at byte offset {offset} of") as error:
        rows_of(path, content)
    assert "UTF-8" in error.value.mend


@pytest.mark.parametrize("broken", [0, 1])
def test_a_broken_line_is_an_invalid_row(path: Path, broken: int) -> None:
    lines = [json.dumps(ROWS[0])] * 3
    lines[broken] = lines[broken][:-5]
    with pytest.raises(InvalidRowError, match="it is broken") as error:
        rows_of(path, "\n".join(lines))
    assert error.value.row == broken + 1
    rejects = Rejects(skip_invalid=True)
    assert len(read_rows(path, rejects)) == 2
    assert [error.row for error in rejects.errors] == [broken + 1]


def test_a_broken_last_line_is_a_truncated_file_unless_skipped(path: Path) -> None:
    line = json.dumps(ROWS[0])
    with pytest.raises(MalformedFileError, match="the file breaks off") as error:
        rows_of(path, f"{line}\n{line[:-5]}")
    assert error.value.row == 2
    rejects = Rejects(skip_invalid=True)
    assert len(read_rows(path, rejects)) == 1
    assert [error.row for error in rejects.errors] == [2]


def test_a_missing_file_is_a_named_error(path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="cannot be read") as error:
        read_rows(path, Rejects(skip_invalid=False))
    assert isinstance(error.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("content", ["[1]", "3", "", '{"a": ', '{"a": 1}{"b": 2}'])
def test_an_object_file_holds_one_object(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(MalformedFileError):
        read_object(path)


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())))
def test_clean_text_is_what_utf8_can_write(text: str) -> None:
    clean = not any(0xD800 <= ord(c) <= 0xDFFF for c in text)
    assert is_clean_text(text) == clean
    assert not is_clean_text(text.encode("utf-8", "replace"))


def test_a_line_of_a_gigabyte_is_refused_unread(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(b'{"qid": 1, "q": "')
        file.truncate(1_000_000_000)  # a sparse file takes no space
    with pytest.raises(MalformedFileError, match="at most 900,000,000 bytes, got 1,000,000,000"):
        read_rows(path, Rejects(skip_invalid=True))
