"""The examples of pages work: their files are written and their commands run, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {
    "adding-parts.md": 12,
    "answers.md": 5,
    "games.md": 4,
    "protocols.md": 3,
    "seeing.md": 2,
    "tutorial.md": 6,
}
"""Each page, and how many of its blocks run."""


def run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
    )


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_every_example_is_short(page: str) -> None:
    assert all(code.count("\n") < 40 for _, code in blocks(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs(tmp_path: Path, page: str) -> None:
    ran = 0
    for language, code in blocks(page):
        if language == "python":
            name = code.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(code, encoding="utf-8")
            done = run([sys.executable, name], tmp_path)
        elif language == "bash":
            done = run(["bash", "-e", "-c", code], tmp_path)
        else:
            continue
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran == PAGES[page]
