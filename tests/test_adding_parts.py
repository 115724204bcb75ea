"""docs/adding-parts.md does what it says: its files are written, and its commands run, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "adding-parts.md").read_text(encoding="utf-8")


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


def test_every_example_is_short() -> None:
    assert all(code.count("\n") < 40 for _, code in BLOCK.findall(PAGE))


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path) -> None:
    ran = 0
    for language, code in BLOCK.findall(PAGE):
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
    assert ran == 10
