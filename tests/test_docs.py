"""The documentation's code runs, and its links are valid."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval.runs.run_options import build_parser
from train.options.grpo_options import GRPO
from train.options.sft_options import SFT
from train.options.start import start_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [code for name, code in BLOCK.findall(text) if name == language]


def commands():
    joined = "".join(blocks("bash")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def run(command, folder):
    """A command of the README, with this interpreter's programs and output in `folder`."""
    bin_folder = Path(sys.executable).parent
    for name in ("python", "accelerate", "longvideo-env"):
        command = re.sub(rf"^{name} ", f"{bin_folder / name} ", command)
    command = command.replace("runs/", f"{folder}/")
    return subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


def test_readme_is_short_and_shows_code_early():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 200
    assert any(line.startswith("```") for line in lines[:40])


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_bash_blocks_run_in_order(tmp_path):
    """All except `make` (it runs this test) and `pip install` (it made this environment)."""
    ours = [line for line in commands() if not line.startswith(("make", "pip install"))]
    assert len(ours) >= 3
    for command in ours:
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_groups_of_entry_points_are_listed():
    text = (ROOT / "docs/adding-parts.md").read_text(encoding="utf-8")
    declared = re.findall(
        r'^\[project\.entry-points\."longvideo_env(\.\w+)"\]',
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    groups = set(declared) - {".api"}
    assert groups >= {".speech", ".shots", ".policies"}
    assert [name for name in sorted(groups) if f"`{name}`" not in text and name != ".tools"] == []


@pytest.mark.parametrize("page", ["coming-from.md", "faq.md"])
def test_options_that_a_page_names_exist(page):
    """Options of training, TRL's included, and of evaluation."""
    script = start_parser(GRPO)
    parsers = (script, start_parser(SFT), build_parser("x", "", several=True))
    known = {name for parser in parsers for name in parser._option_string_actions}
    known = {name.replace("_", "-") for name in known}
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text))
    assert {name for name in named if name.replace("_", "-") not in known} == set()
