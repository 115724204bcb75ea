r"""Measure a report of 3,000 episodes: the time to make it, its size, and how fast it opens.

    python benchmarks/report.py
    python benchmarks/report.py --episodes 10000 --rounds 3

The episodes are of `scripted:ground-look-answer` on `mini`, with three turns each: a grounding, a
look and an answer. They are first played, untimed. Then `longvideo-env report` makes the page in
its own process.

Then headless Chromium opens the file, in each round in a new context. The page's own clock
(`performance.now()`, which starts with the navigation) measures when

- the page was drawn,
- the list of a first filter was on the screen (the filter is chosen as soon as the page is drawn);

and how long these take, each until the next frame has been drawn:

- to choose another filter, to search all texts (the first time, which may wait for the index, and
  again), and to go to the next episode;
- a frame, while the list of all episodes is scrolled.

Chromium is Debian's. The driver is Playwright (`make test-browser` says how to install them).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
ARGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
QUESTIONS_A_VIDEO = 4

# Each resolves once the next frame with the change has been drawn.
DRAWN = "await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));"
CHOOSE = f"""async ([name, value]) => {{
    const start = performance.now();
    const control = document.getElementById('f-' + name);
    control.value = value;
    control.dispatchEvent(new Event('change', {{ bubbles: true }}));
    {DRAWN}
    return [performance.now(), performance.now() - start];
}}"""
SEARCH = """async (words) => {
    const start = performance.now();
    const count = document.getElementById('count').textContent;
    const box = document.getElementById('f-q');
    box.value = words;
    box.dispatchEvent(new Event('input', { bubbles: true }));
    const settled = () => !/Searching/.test(document.getElementById('count').textContent)
        && decodeURIComponent(location.hash).includes('q=' + words.replaceAll(' ', '+'));
    while (!settled()) await new Promise((r) => requestAnimationFrame(r));
    await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
    return performance.now() - start;
}"""
NEXT = f"""async () => {{
    const start = performance.now();
    const before = document.querySelector('.permalink')?.getAttribute('href');
    document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'j', bubbles: true }}));
    const now = () => document.querySelector('.permalink')?.getAttribute('href');
    while (now() === before) await new Promise((r) => requestAnimationFrame(r));
    {DRAWN}
    return performance.now() - start;
}}"""
SCROLL = """async () => {
    const scroller = document.querySelector('.scroller');
    const frames = [];
    let last = performance.now();
    const end = scroller.scrollHeight - scroller.clientHeight;
    for (let i = 1; i <= 120; i += 1) {
        scroller.scrollTop = (end * i) / 120;
        await new Promise((r) => requestAnimationFrame(r));
        frames.push(performance.now() - last);
        last = performance.now();
    }
    return frames;
}"""


def play(folder: Path, episodes: int) -> None:
    """Play the episodes."""
    dataset = f"mini:videos={-(-episodes // QUESTIONS_A_VIDEO)}"
    command = [sys.executable, ROOT / "eval" / "run_policy.py"]
    flags = ["--policy", "scripted:ground-look-answer", "--dataset", dataset, "--split", "test"]
    limits = ["--limit", episodes, "--out", folder]
    subprocess.run([str(part) for part in (*command, *flags, *limits)], check=True, timeout=900)


def make(folder: Path, page: Path) -> float:
    """Make the page in its own process. Returns seconds."""
    code = "import sys; from longvideo_env.commands.main import main; sys.exit(main())"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, "report", str(folder), "--out", str(page)],
        check=True,
        timeout=900,
    )
    return time.perf_counter() - start


def open_once(browser: Any, page_file: Path) -> dict[str, float]:
    """Open the page in a new context, and time a reader's actions."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(page_file.as_uri() + "#/episodes", wait_until="commit")
    page.wait_for_selector("body[data-ready]")
    drawn = page.evaluate("performance.getEntriesByName('drawn')[0].startTime")
    first, _ = page.evaluate(CHOOSE, ["outcome", "wrong"])
    times = {"drawn": drawn, "first filter": first}
    times["another filter"] = page.evaluate(CHOOSE, ["outcome", "right"])[1]
    times["first search"] = page.evaluate(SEARCH, "the wedding")
    times["another search"] = page.evaluate(SEARCH, "green")
    times["next episode"] = page.evaluate(NEXT)
    page.click("text=Clear filters")
    frames = page.evaluate(SCROLL)
    times["frame while scrolling, median"] = statistics.median(frames)
    times["frame while scrolling, worst"] = max(frames)
    context.close()
    return times


def report(times: Sequence[dict[str, float]]) -> None:
    """Print the table."""
    print(f"{'milliseconds':<34}{'median':>8}{'worst':>8}")
    for name in times[0]:
        values = [one[name] for one in times]
        print(f"{name:<34}{statistics.median(values):>8.0f}{max(values):>8.0f}")


def main() -> None:
    """Play, make, open."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=3000, help="Default: 3000.")
    parser.add_argument("--rounds", type=int, default=5, help="Default: 5.")
    options = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("playwright is not installed. Fix: pip install 'longvideo-env[dev]'")
    if not Path(CHROMIUM).is_file():
        sys.exit(f"expected Chromium at {CHROMIUM}. Fix: make test-browser")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        play(Path(folder) / "runs", options.episodes)
        built_s = make(Path(folder) / "runs", page)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGS))
            times = [open_once(browser, page) for _ in range(options.rounds)]
            version = browser.version
            browser.close()
        print(f"{date.today()}, Python {platform.python_version()}, Chromium {version}")
        print(f"{options.episodes} episodes: built in {built_s:.1f} s, ", end="")
        print(f"{page.stat().st_size / 1e6:.2f} MB; {options.rounds} rounds")
    report(times)


if __name__ == "__main__":
    main()
