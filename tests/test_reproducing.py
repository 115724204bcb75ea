"""The commands of docs/reproducing.md run, in order and in one folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval.robustness import VARIANTS
from eval.runs.run_options import build_parser

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reproducing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_page_is_short_and_names_every_option_and_variant() -> None:
    assert len(PAGE.splitlines()) < 100
    parser = build_parser("x", None, several=True)
    options = {o for action in parser._actions for o in action.option_strings}
    named = {
        o for o in options if re.match(r"--(budget|episode-budget|fail|questions|shuffle$)", o)
    }
    assert len(named) == 9
    for name in (*named, *(f"`{variant.name}`" for variant in VARIANTS)):
        assert name in PAGE, name


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == 4
    for code in blocks:
        done = subprocess.run(
            ["bash", "-e", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            check=False, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "tables" / "table.tex").is_file()
    assert (tmp_path / "runs" / "first" / "random" / "rescored-2").is_dir()
