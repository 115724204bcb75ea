"""The page in a real browser: headless Chromium, driven by Playwright."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from eval.report.command import main as report
from longvideo_env.commands.data.mini import main as write_mini

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[3]
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
AXE = ROOT / ".browser" / "node_modules" / "axe-core" / "axe.min.js"
REQUIRED = os.environ.get("LONGVIDEO_REQUIRE_BROWSER") == "1"
SHOTS = Path(os.environ.get("LONGVIDEO_SCREENSHOTS", ROOT / ".browser" / "screenshots"))
ARGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LAPTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
POLICIES = ("--policy", "scripted:ground-look-answer", "--policy", "random")
RTL = "\u0645\u0631\u062d\u0628\u0627 \u202e evil \u202c"
SCRIPT = "<script>window.hacked = 1</script>"
CLOSE = "</script></style><img src=x onerror='window.hacked = 1'>"
LINK = "[click](javascript:window.hacked=1) <a href='javascript:window.hacked=1'>x</a>"


def need(there: bool, what: str) -> None:
    if there:
        return
    message = f"needs {what}; `make test-browser` installs it"
    if REQUIRED:
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    need(CHROMIUM.is_file(), f"Chromium at {CHROMIUM}")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        need(False, "the package playwright")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGS))
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page. At the end, the console must be empty and no request may have been sent."""
    contexts, said, asked = [], [], []

    def open_page(path: Path, place: str = "", size: Any = None, theme: str = "light") -> Any:
        context = browser.new_context(viewport=size or LAPTOP, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        if AXE.is_file():
            page.add_init_script(path=str(AXE))  # the page's own policy does not apply to it
        page.goto(path.as_uri() + place)
        page.wait_for_selector("body[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module")
def dev(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path, play: Callable[..., None]
) -> Path:
    """The report of two policies on 595 real questions."""
    out = tmp_path_factory.mktemp("dev")
    dataset = shared_data / "tvqa_plus_dev"
    play(*POLICIES, "--dataset", dataset, "--split", "val", "--out", out / "runs")
    page = out / "report.html"
    assert report([str(out / "runs"), "--title", "Offline policies", "--out", str(page)]) == 0
    return page


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a training run on `mini`: two steps of GRPO."""
    out = tmp_path_factory.mktemp("trained") / "grpo-mini"
    flags = ["--max_steps", "2", "--save_rollouts", out / "rollouts", "--output_dir", out]
    script = [ROOT / "train" / "grpo.py", "--config", ROOT / "configs" / "grpo" / "mini.yaml"]
    command = [sys.executable, *script, *flags]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    page = out / "report.html"
    assert report([str(out), "--out", str(page)]) == 0
    return page


@pytest.fixture(scope="module")
def pictured(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with frames."""
    page = tmp_path_factory.mktemp("pictured") / "report.html"
    assert report([str(runs), "--title", "mini with frames", "--out", str(page)]) == 0
    return page


@pytest.fixture(scope="module")
def filmed(film_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on films whose clips have times."""
    page = tmp_path_factory.mktemp("filmed") / "report.html"
    assert report([str(film_runs), "--out", str(page)]) == 0
    return page


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, play: Callable[..., None]) -> Path:
    """The report of a run with hostile text from the dataset, the policy and the tools."""
    folder = tmp_path_factory.mktemp("hostile")
    data, out = folder / "data", folder / "runs"
    write_mini(["--out", str(data), "--videos", "2"])
    for path in data.glob("*.json"):
        path.write_text(_poisoned(path), encoding="utf-8")
    play(*POLICIES[:2], "--dataset", data, "--split", "train", "--out", out)
    _poison_episodes(next(out.rglob("episodes.jsonl")))
    page = folder / "report.html"
    title = f"{CLOSE}{SCRIPT}"
    assert report([str(out), "--title", title, "--name", SCRIPT + RTL, "--out", str(page)]) == 0
    return page


def _poisoned(path: Path) -> str:
    value = json.loads(path.read_text(encoding="utf-8"))
    if "subtitle" in path.name:
        value = {key: f"{text} {SCRIPT} {RTL} {LINK}" for key, text in value.items()}
    elif path.name == "captions.json":
        for captions in value.values():
            captions[0]["text"] = f"{CLOSE} {RTL} " + "abc<b>" * 17_000
    else:
        for row in value:
            row |= {"q": f"{row['q']} {SCRIPT} {LINK} {RTL}", "a0": CLOSE, "a1": RTL}
    return json.dumps(value)


def _poison_episodes(path: Path) -> None:
    """Write values that a newer or broken writer could write: odd statuses, errors and names."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    records[1] |= {"status": "failed", "error": CLOSE + RTL, "correct": None}
    for turn in records[1]["turns"]:
        turn["result"] = {"agent": SCRIPT, "value": None, "error": LINK, "details": {SCRIPT: CLOSE}}
    records[2]["turns"][0] |= {"malformed": "no_action", "action": None, "argument": None}
    lines = [json.dumps(record) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"))


def count(page: Any) -> int | None:
    found = re.match(r"([0-9,]+) episode", page.inner_text("#count"))
    return int(found[1].replace(",", "")) if found else None


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Wait. Playwright's own `wait_for_function` needs a content policy that allows eval."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(25)
    pytest.fail("it did not come about in 5 s")


def choose(page: Any, name: str, value: str) -> None:
    page.select_option(f"#f-{name}", value)
    until(page, lambda: (f"{name}={value}" in page.url) == bool(value))


def test_the_overview_shows_the_numbers_of_the_summaries(
    dev: Path, visit: Callable[..., Any]
) -> None:
    page = visit(dev)
    shot(page, "report-overview")
    row = page.inner_text("table.runs tbody tr:nth-child(2)")
    folder = dev.parent / "runs" / "scripted-ground-look-answer"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert f"{100 * summary['accuracy']:.1f}%" in row
    low, high = summary["accuracy_ci95"]
    assert f"{100 * low:.1f}\u2013{100 * high:.1f}" in row
    page.click("text=B only >> xpath=ancestor::table//tbody//td[6]/a")
    page.wait_for_selector(".rows .row")
    assert 0 < count(page) < 595


def test_the_headline_stands_first_and_rare_parts_are_named_but_not_shown(
    pictured: Path, visit: Callable[..., Any]
) -> None:
    page = visit(pictured)
    assert " points ahead of " in page.inner_text("#main .headline")
    assert "mini, split train" in page.inner_text("#about")
    assert page.locator("th:text-is('By show')").count() == 0
    hidden = page.inner_text("ul[aria-label='Not shown']")
    assert "Not shown: by show: one value, mini." in hidden
    counts = page.locator(".part tbody tr").all_inner_texts()
    assert counts, "some parts are large enough"
    assert all(max(map(int, re.findall(r"(?<![.\d])\d+(?![.\d%])", row))) >= 10 for row in counts)


def test_the_list_shows_choice_and_truth(dev: Path, visit: Callable[..., Any]) -> None:
    page = visit(dev, "#/episodes?run=1&outcome=wrong")
    wrong = page.locator(".rows .choice").first.inner_text()
    page.keyboard.press("j")
    page.wait_for_selector("#trace .options")
    chosen, truth = (
        page.inner_text(f"#trace .options .{name} .text") for name in ("miss", "truth")
    )
    assert wrong == f"chose {chosen} \u00b7 truth: {truth}"
    choose(page, "outcome", "right")
    assert page.locator(".rows .choice").first.inner_text().startswith("chose the truth: ")


def test_a_clip_has_one_name_and_times_are_those_of_the_film(
    filmed: Path, visit: Callable[..., Any]
) -> None:
    page = visit(filmed, "#/episodes?tool=ground")
    page.keyboard.press("j")
    page.wait_for_selector("#trace .turns")
    assert page.locator(".strip img").evaluate_all("all => all.every(i => i.naturalWidth > 50)")
    assert page.locator(".strip li").count() == page.locator(".timeline ol li").count()
    shot(page, "report-film")
    to = page.inner_text(".turn.ground .to")
    found = re.fullmatch(r"\s*→ (clip (\d+) \((\d\d):00\u2013\d\d:00\))", to)
    assert found
    assert int(found[2]) == int(found[3]) + 1, "a clip a minute"
    assert page.locator(".turn.ground .clip-name").first.inner_text() == found[1]
    assert found[1] in page.inner_text(".turn.look .action")
    assert page.inner_text(".frames button >> nth=0") == f"{found[3]}:00"
    assert re.search(r"gold: clip \d+ \(\d\d:00", page.inner_text(".timeline .legend"))
    assert "~" not in page.inner_text("#trace")


def test_times_that_are_only_reckoned_say_so(pictured: Path, visit: Callable[..., Any]) -> None:
    page = visit(pictured, "#/episodes")
    page.keyboard.press("j")
    page.wait_for_selector("#trace .turns")
    assert "(~" in page.inner_text(".opening")
    assert "does not say where its clips lie" in page.inner_text(".axis-line")


def test_tables_that_are_cut_off_say_so(dev: Path, visit: Callable[..., Any]) -> None:
    page = visit(dev, "", PHONE)
    hint = page.locator(".wide", has=page.locator("table.runs")).locator(".wider")
    until(page, hint.is_visible)
    assert "Scroll sideways" in hint.inner_text()
    table = page.locator(".scroll", has=page.locator("table.runs"))
    assert "cut" in table.get_attribute("class")
    table.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    until(page, lambda: "cut" not in table.get_attribute("class"))
    assert not visit(dev).locator("table.runs >> xpath=ancestor::*[@class='wide']/p").is_visible()


def test_filters_and_search_narrow_the_list(dev: Path, visit: Callable[..., Any]) -> None:
    page = visit(dev, "#/episodes?run=1")
    assert count(page) == 595
    choose(page, "outcome", "wrong")
    wrong = count(page)
    choose(page, "outcome", "right")
    assert wrong + count(page) == 595
    page.click("text=More filters")
    choose(page, "kind", "why")
    assert 0 < count(page) < 100
    assert all("right:" in text for text in page.locator(".rows .mark").all_inner_texts())
    page.click("text=Clear filters")
    until(page, lambda: count(page) == 1190)
    page.keyboard.press("/")
    page.keyboard.type("sheldon laptop")
    until(page, lambda: "laptop" in page.url)
    found = count(page)
    assert 0 < found < 300
    shown = page.locator(".rows .row").count()
    assert shown <= min(found, 40), "only the rows in sight exist"
    assert page.evaluate("document.activeElement.id") == "f-q", "typing keeps the focus"
    page.fill("#f-q", "no such words anywhere")
    until(page, lambda: count(page) == 0)
    assert "No episode fits" in page.inner_text("#trace")


def test_the_keyboard_goes_through_episodes_and_each_has_a_link(
    dev: Path, visit: Callable[..., Any]
) -> None:
    page = visit(dev, "#/episodes?run=1&outcome=right")
    for key in ("j", "j", "ArrowRight", "k"):
        page.keyboard.press(key)
    page.wait_for_selector("text=2 of")
    question = page.inner_text("#trace h2")
    assert page.inner_text(".row[aria-current] .what") in question
    shot(page, "report-episode")
    link = page.get_attribute(".permalink", "href")
    page.keyboard.press("Escape")
    page.wait_for_selector("#trace .empty")
    other = visit(dev, link)
    assert other.inner_text("#trace h2") == question
    other.keyboard.press("?")
    assert "next episode" in other.inner_text("dialog[open]")


def test_two_runs_are_compared_question_by_question(dev: Path, visit: Callable[..., Any]) -> None:
    page = visit(dev, "#/episodes?run=1", theme="dark")
    choose(page, "vs", "0")
    choose(page, "diff", "ab")
    page.wait_for_selector("text=100.0% right")
    assert 0 < count(page) < 595
    page.keyboard.press("j")
    page.wait_for_selector(".one >> nth=1")
    verdicts = page.locator(".one .verdict .pill:first-child").all_inner_texts()
    assert [words.split()[-1] for words in verdicts] == ["right", "wrong"]
    assert page.locator(".one .letter").all_inner_texts() == ["A", "B"]
    shot(page, "report-compare-dark")


def test_a_list_of_many_is_drawn_as_it_is_scrolled(dev: Path, visit: Callable[..., Any]) -> None:
    page = visit(dev, "#/episodes")
    assert page.locator(".rows .row").count() < 60
    page.evaluate("document.querySelector('.scroller').scrollTop = 1e6")
    page.wait_for_selector('.row[data-at="1189"]')
    assert page.locator(".rows .row").count() < 60


def test_a_frame_is_enlarged_and_left_by_keyboard(
    pictured: Path, visit: Callable[..., Any]
) -> None:
    page = visit(pictured, "#/episodes?run=1&tool=look")
    page.keyboard.press("j")
    thumb = page.locator(".frames button").first
    thumb.scroll_into_view_if_needed()
    shot(page, "report-frames")
    before = thumb.locator("img").bounding_box()
    thumb.click()
    dialog = page.locator("#frame[open]")
    after = dialog.locator("img").bounding_box()
    assert after["width"] > 4 * before["width"]
    assert dialog.locator("img").evaluate("image => image.naturalWidth") >= 100
    assert "1 of" in dialog.inner_text()
    shot(page, "report-frame-enlarged")
    page.keyboard.press("ArrowRight")
    assert "2 of" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#frame[open]").count() == 0


def test_a_training_run_shows_groups_side_by_side(trained: Path, visit: Callable[..., Any]) -> None:
    page = visit(trained, "#/training")
    shot(page, "report-training")
    assert page.locator(".panel svg").count() == 4
    assert page.locator(".group").count() == 8
    first = page.locator(".group").first
    assert first.locator(".card").count() == 8
    numbers = first.locator(".card-nums").all_inner_texts()
    values = [float(re.findall(r"[+-]?[\d.]+$", n.replace("\u2212", "-"))[0]) for n in numbers]
    assert abs(sum(values)) < 0.1, "advantages of a group add up to nothing"
    page.click("text=Next step")
    until(page, lambda: "step=2" in page.url)
    page.locator(".card > a").nth(3).click()
    page.wait_for_selector("#trace .turn")
    assert "advantage" in page.inner_text(".verdict")
    assert count(page) == 64


def test_a_phone_shows_the_list_and_then_the_episode(dev: Path, visit: Callable[..., Any]) -> None:
    page = visit(dev, "", PHONE)
    for place in ("#/overview", "#/episodes"):
        page.goto(dev.as_uri() + place)
        page.wait_for_selector(f"body[data-view={place[2:]}]")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{place} is wider than the screen"
    page.wait_for_selector(".rows .row")
    page.locator(".row").nth(3).click()
    page.wait_for_selector("#trace .turn")
    assert not page.is_visible(".side")
    shot(page, "report-phone")
    page.click("text=All episodes")
    page.wait_for_selector(".side")
    assert page.is_visible(".rows .row")
    assert not page.is_visible("#trace")


def test_hostile_text_is_shown_as_text(hostile: Path, visit: Callable[..., Any]) -> None:
    page = visit(hostile)
    assert SCRIPT in page.inner_text("h1")
    assert SCRIPT in page.inner_text("table.runs")
    page.goto(hostile.as_uri() + "#/episodes")
    page.wait_for_selector(".rows .row")
    for number in range(4):
        page.keyboard.press("j")
        page.wait_for_selector(f"text={number + 1} of")
        assert SCRIPT in page.inner_text("#trace h2")
        assert CLOSE in page.inner_text(".options")
        for more in page.locator("#trace details > summary").all():
            more.click()
    shot(page, "report-hostile")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#trace img, #trace script, a[href^='javascript']").count() == 0
    links = page.eval_on_selector_all("a", "all => all.map(a => a.getAttribute('href'))")
    assert all(link.startswith("#") for link in links)


def test_a_failed_and_a_malformed_turn_stand_out(hostile: Path, visit: Callable[..., Any]) -> None:
    page = visit(hostile, "#/episodes?outcome=failed")
    page.keyboard.press("j")
    page.wait_for_selector(".turn.toolfail")
    assert CLOSE in page.inner_text(".one > .failure")
    choose(page, "outcome", "")
    page.click("text=More filters")
    choose(page, "tool", "bad")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.wait_for_selector(".turn.bad")
    assert "malformed: no action" in page.inner_text(".turn.bad h4")


def test_a_very_long_observation_opens_on_demand(hostile: Path, visit: Callable[..., Any]) -> None:
    page = visit(hostile, "#/episodes")
    page.keyboard.press("j")
    page.wait_for_selector(".obs .more")
    box = page.locator(".obs", has=page.locator(".more")).first
    assert len(box.inner_text()) < 6_000
    box.locator(".more").click()
    page.wait_for_selector(".obs .whole")
    assert len(page.locator(".obs .whole").first.inner_text()) > 100_000
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= LAPTOP["width"]


def test_right_to_left_text_keeps_its_own_direction(
    hostile: Path, visit: Callable[..., Any]
) -> None:
    page = visit(hostile, "#/episodes")
    page.keyboard.press("j")
    page.wait_for_selector(".options")
    option = page.locator(".options .text").nth(1)
    assert option.evaluate("node => getComputedStyle(node).direction") == "rtl"
    assert page.locator("#trace").evaluate("node => getComputedStyle(node).direction") == "ltr"


def test_the_policy_of_the_page_allows_no_network(dev: Path, browser: Any) -> None:
    """The browser blocks a script's request before it is sent."""
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    page = browser.new_page()
    page.goto(dev.as_uri())
    tries = """async (url) => {
        const refused = [];
        const note = (event) => refused.push(event.effectiveDirective);
        document.addEventListener('securitypolicyviolation', note);
        await fetch(url).catch(() => 0);
        new Image().src = url;
        const script = document.createElement('script');
        script.src = url;
        document.head.append(script);
        const inline = document.createElement('script');
        inline.textContent = 'window.hacked = 1';
        document.head.append(inline);
        await new Promise((resolve) => setTimeout(resolve, 300));
        return [refused, window.hacked];
    }"""
    refused, hacked = page.evaluate(tries, url)
    server.shutdown()
    server.server_close()
    page.close()
    assert {"connect-src", "img-src", "script-src-elem"} <= set(refused)
    assert hacked is None
    assert asked == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_axe_finds_nothing(
    theme: str,
    size: dict[str, int],
    dev: Path,
    pictured: Path,
    trained: Path,
    hostile: Path,
    filmed: Path,
    visit: Callable[..., Any],
) -> None:
    need(AXE.is_file(), "axe-core")
    places = [
        (dev, "#/overview"),
        (dev, "#/episodes?run=1&vs=0&diff=ab&kind=why"),
        (filmed, "#/episodes"),
        (trained, "#/training"),
        (trained, "#/overview"),
        (hostile, "#/episodes"),
    ]
    for path, place in places:
        page = visit(path, place, size, theme)
        if "episodes" in place:
            page.keyboard.press("j")
            page.wait_for_selector("#trace .turns")
        assert violations(page) == [], f"{path.parent.name}{place}"
    page = visit(pictured, "#/episodes?tool=look", size, theme)
    page.keyboard.press("j")
    page.locator(".frames button").first.click()
    assert violations(page) == [], "an enlarged frame"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert violations(page) == [], "the help"


def violations(page: Any) -> list[str]:
    """The findings of axe-core at every level, with their places."""
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0]['failureSummary'][:200]}"
        for one in page.evaluate("axe.run(document)")["violations"]
    ]


def test_both_themes_can_be_chosen(dev: Path, visit: Callable[..., Any]) -> None:
    page = visit(dev, theme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) == light
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark"
    assert page.evaluate(colour) != light
