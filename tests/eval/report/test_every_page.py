"""Every page of this project runs and loads only what its content policy names."""

import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.bundle.card import main as card
from eval.film_chat import main as chat
from eval.report.command import main as report

Image = pytest.importorskip("PIL.Image")

ROOT = Path(__file__).parents[3]
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
AXE = ROOT / ".browser" / "node_modules" / "axe-core" / "axe.min.js"
EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
PAGES = ("card.html.j2", "chat.html.j2", "film.html.j2", "report.html.j2")
CLIP = "film_seg01_clip_00"


def test_these_are_all_pages() -> None:
    rooms = ("longvideo_env", "agents", "train", "eval")
    files = [path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()]
    there = [
        path.name
        for path in files
        if path.suffix in (".py", ".j2", ".jinja", ".html")
        and "<html" in path.read_text(encoding="utf-8").lower()
    ]
    assert tuple(sorted(there)) == PAGES


@pytest.fixture
def film(tmp_path: Path) -> Path:
    folder = tmp_path / "film"
    frames = folder / "frames" / CLIP
    frames.mkdir(parents=True)
    lines = [{"start_s": 1, "end_s": 2, "text": f"He found the old key {EVIL}"}]
    spans = {"frames_fps": 1, "clips": {CLIP: {"start_s": 60, "end_s": 70}}}
    (folder / "subtitles.json").write_text(json.dumps({CLIP: lines}))
    (folder / "clips.json").write_text(json.dumps(spans))
    (folder / "film.json").write_text(json.dumps({"title": f"Film {EVIL}"}))
    for i in range(10):
        Image.fromarray(np.full((36, 64, 3), 25 * i, np.uint8)).save(frames / f"{i + 1:05d}.jpg")
    return folder


@pytest.fixture
def pages(
    film: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """One page of each kind, made from hostile data."""
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for file in (runs / "random").glob("*.json*"):
        text = file.read_text(encoding="utf-8").replace('"random"', json.dumps(f"x:{EVIL}"))
        (hostile / file.name).write_text(text, encoding="utf-8")
    made = {name: tmp_path / f"{name.partition('.')[0]}.html" for name in PAGES}
    monkeypatch.setattr("sys.stdin", io.StringIO(f"What did he find?\nWhat key {EVIL}?\n"))
    commands: list[tuple[Callable[..., int], list[str | Path]]] = [
        (chat, [film, "--page", made["chat.html.j2"]]),
        (report, [film, "--out", made["film.html.j2"]]),
        (report, [hostile, "--out", made["report.html.j2"]]),
        (card, [hostile, "--out", tmp_path / "card"]),
    ]
    with ThreadPoolExecutor(1) as pool:  # the browser's driver has a loop in this thread
        for main, arguments in commands:
            assert pool.submit(main, [str(one) for one in arguments]).result() == 0, arguments
    return made


@pytest.mark.slow
def test_each_page_opens_with_its_policy(pages: dict[str, Path]) -> None:
    for path in pages.values():
        html = path.read_text(encoding="utf-8")
        head = html.partition("</head>")[0]
        start = head.index('http-equiv="Content-Security-Policy" content="default-src')
        assert "none" in head[start : start + 90]
        for loads in ("<script", "<style", "<link", "<img"):
            assert start < (head.find(loads) if loads in head else len(head)), (path, loads)
        assert EVIL not in html


@pytest.fixture
def browser() -> Iterator[Any]:
    required = os.environ.get("LONGVIDEO_REQUIRE_BROWSER") == "1"
    if not (CHROMIUM.is_file() and AXE.is_file()):
        message = "needs Chromium and axe-core; `make test-browser` installs them"
        pytest.fail(message) if required else pytest.skip(message)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield chromium
        chromium.close()


TRIES = """async () => {
    const refused = [];
    document.addEventListener('securitypolicyviolation', e => refused.push(e.effectiveDirective));
    const script = document.createElement('script');
    script.textContent = 'window.hacked = 1';
    document.body.append(script);
    const picture = document.createElement('img');
    picture.src = 'http://127.0.0.1:9/x.png';
    document.body.append(picture);
    await fetch('http://127.0.0.1:9/').catch(() => {});
    await new Promise(done => setTimeout(done, 300));
    script.remove(); picture.remove();
    return refused;
}"""


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_page_in_a_browser(pages: dict[str, Path], browser: Any, theme: str) -> None:
    for path in pages.values():
        page = browser.new_context(color_scheme=theme).new_page()
        asked: list[str] = []
        page.add_init_script(path=str(AXE))  # the page's own policy does not apply to it
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_timeout(200)
        found = page.evaluate("axe.run(document)")["violations"]
        assert [one["id"] for one in found] == [], path
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        refused = page.evaluate(TRIES)
        assert {"connect-src", "img-src", "script-src-elem"} <= set(refused), path
        assert page.evaluate("window.hacked") is None, path
