"""The page of a film: timed rows with pictures and lines, and a search."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av")
pytest.importorskip("PIL")

from eval.report.command import main as report
from longvideo_env.commands.data.ingest import IngestOptions, ingest
from longvideo_env.datasets.layers import Maker, write_layer

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
EVIL = "<script>window.hacked = 1</script>"


@pytest.fixture(scope="module")
def film(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film of the pack with subtitles, shots, and layers of text and captions."""
    video = shared_data / "video"
    out = tmp_path_factory.mktemp("films") / "battle"
    shots = True
    try:
        import scenedetect  # noqa: F401
    except ImportError:
        shots = False
    options = IngestOptions(clip_s=20, fps=1, longest_side=160, shots=shots)
    ingest(
        video / "tears-of-steel-battle.webm",
        out,
        subtitles=video / "sintel-en.vtt",
        options=options,
    )
    clip = "tears-of-steel-battle_seg01_clip_01"
    sign = [{"start_s": 3, "end_s": 6, "text": f"NO ENTRY {EVIL}"}]
    write_layer(out, Maker("text", "rapidocr"), {clip: sign})
    seen = [{"start_s": 12, "end_s": 13, "text": "a robot in the street"}]
    write_layer(out, Maker("captions", "vlm:x"), {clip: seen})
    return out


def make(film: Path, out: Path, *more: str) -> str:
    assert report([str(film), "--out", str(out), *more]) == 0
    return out.read_text(encoding="utf-8")


def rows_of(html: str) -> list[str]:
    return re.findall(r"<tr><th scope=\"row\".*?</tr>", html, re.DOTALL)


@pytest.mark.slow
def test_rows_are_shots_with_their_lines(film: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("scenedetect")
    html = make(film, tmp_path / "film.html")
    rows = rows_of(html)
    assert len(rows) == 17
    assert "17 rows, 17 pictures" in capsys.readouterr().out
    assert "A row is a shot." in html
    assert html.count('<img src="data:image/jpeg;base64,') == 17
    (sign,) = [row for row in rows if "NO ENTRY" in row]
    assert "<time>00:23</time> NO ENTRY &lt;script&gt;" in sign
    assert "This blade has a dark past." in " ".join(rows)
    (robot,) = [row for row in rows if "a robot in the street" in row]
    first, last = re.search(r"(\d\d:\d\d)-(\d\d:\d\d)", robot).groups()  # type: ignore[union-attr]
    assert first <= "00:32" <= last
    assert EVIL not in html
    assert "http" not in html.replace("http-equiv", "")


@pytest.mark.slow
def test_without_shots_a_row_is_ten_seconds(film: Path, tmp_path: Path, capsys: Any) -> None:
    shots, kept = film / "shots.json", film / "kept"
    if shots.is_file():
        shots.rename(kept)
    try:
        html = make(film, tmp_path / "film.html", "--max-frames", "3")
    finally:
        if kept.is_file():
            kept.rename(shots)
    assert len(rows_of(html)) == 8
    assert html.count("<img ") == 3
    assert "5 of 8 rows have no picture" in capsys.readouterr().err


def test_bad_input_is_one_line(film: Path, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "film.html")
    assert report([str(film), str(film), "--out", out]) == 2
    assert "a page has one film" in capsys.readouterr().err
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("film.json", "clips.json"):
        (broken / name).write_bytes((film / name).read_bytes())
    (broken / "shots.json").write_text(json.dumps({"shots": [3]}))
    assert report([str(broken), "--out", out]) == 1
    assert "expected 'shots' as" in capsys.readouterr().err


@pytest.fixture
def browser() -> Iterator[Any]:
    if not CHROMIUM.is_file():
        if os.environ.get("LONGVIDEO_REQUIRE_BROWSER") == "1":
            pytest.fail("needs Chromium; `make test-browser` installs it")
        pytest.skip("needs Chromium; `make test-browser` installs it")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield chromium
        chromium.close()


@pytest.mark.browser
def test_the_search_in_a_browser(film: Path, tmp_path: Path, browser: Any) -> None:
    out = tmp_path / "film.html"
    make(film, out)
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(out.as_uri())
    n = page.locator("tbody tr").count()
    assert page.locator("#count").inner_text() == f"{n} of {n} rows"
    page.get_by_label("Search all lines").fill("no entry")
    assert page.locator("tbody tr:visible").count() == 1
    assert page.locator("#count").inner_text() == f"1 of {n} rows"
    page.get_by_label("Search all lines").fill("nowhere to be found")
    assert page.locator("tbody tr:visible").count() == 0
    page.get_by_label("Search all lines").fill("")
    assert page.locator("tbody tr:visible").count() == n
    assert page.evaluate("window.hacked") is None
    assert problems == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
