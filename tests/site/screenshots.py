"""`make screenshots`: the pictures of the report in docs/images, from runs on `mini` made for them.

    python tests/site/screenshots.py

Three policies play 24 videos with frames, and a training runs for twelve steps. Debian's Chromium
opens the page in light mode, in dark mode and at the size of a phone. Each picture is made small
enough for a repository. CHROMIUM names another browser.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from longvideo_env import load_dataset

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
POLICIES = ("hf:mini-starter", "random", "scripted:ground-look-answer")


def command(*args: object) -> None:
    """Run one of the project's commands. Its output is shown only if it fails."""
    program = [str(Path(sys.executable).parent / "longvideo-env"), *map(str, args)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(program)}\n{done.stdout}\n{done.stderr}")


def play(folder: Path) -> tuple[Path, Path]:
    """The report pages of three evaluations and of a training."""
    data, runs, training = folder / "mini", folder / "runs", folder / "grpo-mini"
    command("mini", "--out", data, "--videos", 24, "--frames")
    videos = load_dataset(str(data), "train").videos.values()
    clips = [(clip, i) for video in videos for i, clip in enumerate(video.clip_ids)]
    times = {clip: {"start_s": 60 * i, "end_s": 60 * (i + 1)} for clip, i in clips}
    (data / "clips.json").write_text(json.dumps({"frames_fps": 3, "clips": times}))
    policies = [part for policy in POLICIES for part in ("--policy", policy)]
    command("evaluate", *policies, "--dataset", data, "--split", "train", "--out", runs)
    command("train", "--max_steps", 12, "--per_device_train_batch_size", 32,
            "--output_dir", training, "--save_rollouts", training / "rollouts")  # fmt: skip
    pages = folder / "report.html", folder / "training.html"
    command("report", runs, "--title", "Three policies on mini", "--out", pages[0])
    command("report", training, "--out", pages[1])
    return pages


@contextmanager
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    with sync_playwright() as playwright:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)


def shoot(chromium: Any, page: Path, place: str, size: dict[str, int], theme: str) -> Image.Image:
    """A picture of a part of a page. For episodes, the first in the list."""
    context = chromium.new_context(viewport=size, color_scheme=theme)
    tab = context.new_page()
    tab.goto(page.as_uri() + place)
    tab.wait_for_selector("body[data-ready]")
    if "open" in place:
        tab.keyboard.press("j")
        tab.wait_for_selector("#trace .turns")
    tab.evaluate("document.activeElement.blur()")
    tab.wait_for_timeout(300)
    image = Image.open(BytesIO(tab.screenshot())).convert("RGB")
    context.close()
    return image


def side_by_side(images: list[Image.Image], gap: int = 16) -> Image.Image:
    """Pictures of a phone side by side, on grey."""
    width = sum(image.width for image in images) + gap * (len(images) + 1)
    whole = Image.new("RGB", (width, images[0].height + 2 * gap), (140, 146, 152))
    for i, image in enumerate(images):
        whole.paste(image, (gap + i * (image.width + gap), gap))
    return whole


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        report, training = play(Path(folder))
        compare = "#/episodes?run=0&vs=1&diff=ab&open=1"
        look = "#/episodes?run=0&tool=look&open=1"
        phone = ("", "#/episodes?run=0", "#/episodes?run=0&outcome=wrong&open=1")
        pictures = {
            "overview": shoot(chromium, report, "", LAPTOP, "light"),
            "episode": shoot(chromium, report, look, LAPTOP, "light"),
            "compare-dark": shoot(chromium, report, compare, LAPTOP, "dark"),
            "training": shoot(chromium, training, "#/training", LAPTOP, "light"),
            "phone": side_by_side([shoot(chromium, report, p, PHONE, "light") for p in phone]),
        }
    for name, picture in pictures.items():
        path = IMAGES / f"report-{name}.png"
        picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        sys.stdout.write(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB\n")


if __name__ == "__main__":
    main()
