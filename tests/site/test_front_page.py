"""The front page of the site of `make docs`, in headless Chromium."""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
AXE = ROOT / ".browser" / "node_modules" / "axe-core" / "axe.min.js"
FRONT = ROOT / "site" / "index.html"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["laptop", "phone"])
def test_axe_finds_nothing(theme, size):
    missing = [str(path) for path in (CHROMIUM, AXE, FRONT) if not path.is_file()]
    if missing:
        message = f"needs {', '.join(missing)}; `make test-browser` makes them"
        required = os.environ.get("LONGVIDEO_REQUIRE_BROWSER") == "1"
        pytest.fail(message) if required else pytest.skip(message)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        viewport = {"width": size[0], "height": size[1]}
        page = browser.new_context(viewport=viewport, color_scheme=theme).new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(path=str(AXE))
        page.goto(FRONT.as_uri())
        page.wait_for_timeout(500)
        found = page.evaluate("axe.run(document)")["violations"]
        width = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert [(one["id"], one["nodes"][0]["html"][:120]) for one in found] == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert width <= size[0]
