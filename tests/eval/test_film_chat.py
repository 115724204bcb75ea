"""A chat about a film: questions on standard input, and a page with the cited moments."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.film_chat import main, questions

Image = pytest.importorskip("PIL.Image")
CLIP = "film_seg01_clip_00"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    folder = tmp_path / "film"
    frames = folder / "frames" / CLIP
    frames.mkdir(parents=True)
    lines = [{"start_s": 1, "end_s": 2, "text": "Good <b>morning</b>."},
             {"start_s": 4, "end_s": 5, "text": "He found the old key!"}]  # fmt: skip
    spans = {"frames_fps": 1, "clips": {CLIP: {"start_s": 60, "end_s": 70}}}
    (folder / "subtitles.json").write_text(json.dumps({CLIP: lines}))
    (folder / "clips.json").write_text(json.dumps(spans))
    for i in range(10):
        shade = np.full((36, 64, 3), 25 * i, np.uint8)
        Image.fromarray(shade).save(frames / f"{i + 1:05d}.jpg")
    return folder


def chat(
    film: Path, said: str, more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    code = main([str(film), *more])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_questions_go_on_and_the_page_shows_the_moments(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    page = tmp_path / "out" / "chat.html"
    said = (
        "What did he find?\n\nWhat did he find? | the key | a hat\nWho built the <i>ship</i>?\n"
        "quit\nWhat did he find?\n"
    )
    code, out, _ = chat(film, said, ["--page", str(page)], monkeypatch, capsys)
    assert code == 0
    assert out.startswith("film: answered by quote (offline, counts words: a floor, not an answer)")
    assert out.count("01:04 He found the old key!") == 2
    assert "answer: a0, the key\n" in out
    assert "answer: nothing in the film speaks of this" in out
    assert f"{page}: 3 answers" in out
    html = page.read_text(encoding="utf-8")
    assert html.count("<article>") == 3
    assert html.count('<img src="data:image/jpeg;base64,') == 2
    assert "Who built the &lt;i&gt;ship&lt;/i&gt;?" in html
    assert "<i>" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_a_wrong_question_is_said_and_the_chat_goes_on(
    film: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    said = "Who? | only one\nWhat did he find?\n"
    code, out, err = chat(film, said, [], monkeypatch, capsys)
    assert code == 3
    assert "chat: expected 2 to 16 options, got 1." in err
    assert "01:04 He found the old key!" in out


def test_bad_input_is_one_line(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    code, _, err = chat(film, "", ["--policy", "nobody", "--meaning", "none"], monkeypatch, capsys)
    assert (code, err.count("\n")) == (2, 1)
    blocked = tmp_path / "file"
    blocked.write_text("")
    page = str(blocked / "chat.html")
    code, _, err = chat(film, "Who?\n", ["--page", page], monkeypatch, capsys)
    assert code == 1
    assert "chat.html cannot be written" in err


def test_lines_become_questions() -> None:
    lines = iter(["  Who?  ", "", "A? | x | y", "exit", "B?"])
    assert list(questions(lines)) == [("Who?", ()), ("A?", ("x", "y"))]


POLICY = """
import json
from pathlib import Path


def look_back(messages):
    '''Writes down what it reads.'''
    with open(Path(__file__).with_name("read.jsonl"), "a") as file:
        file.write(json.dumps(messages[1]["content"]) + "\\n")
    return "<answer>the <b>old</b> key</answer>"
"""


def test_a_model_knows_the_earlier_questions(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "mine.py").write_text(POLICY)
    more = ["--policy", f"{tmp_path / 'mine.py'}:look_back"]
    code, _, _ = chat(film, "What did he find?\nAnd <search>where</search>?\nWhen?\n", more,
                      monkeypatch, capsys)  # fmt: skip
    assert code == 0
    first, second, third = map(json.loads, (tmp_path / "read.jsonl").read_text().splitlines())
    assert "Earlier" not in first
    assert "- What did he find?\n  the <b>old</b> key\n\nQuestion: And" in second
    assert "- And &lt;search>where&lt;/search>?" in third, "harmless, as all text from outside"
