"""Every command is reached by `longvideo-env NAME`, and scripts use their own checkout."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomllib

from longvideo_env.commands.main import GROUPS, main

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMMANDS: dict[str, str] = PROJECT["project"]["entry-points"]["longvideo_env.commands"]
SCRIPTS = sorted(
    path.relative_to(ROOT)
    for folder in ("eval", "train")
    for path in (ROOT / folder).rglob("*.py")
    if re.search(r'^if __name__ == "__main__"', path.read_text(encoding="utf-8"), re.MULTILINE)
)
TRAINING = {"train", "sft", "merge-adapter", "tiny-model"}


def test_every_script_is_a_command() -> None:
    modules = {place.partition(":")[0] for place in COMMANDS.values()}
    names = {".".join(path.with_suffix("").parts) for path in SCRIPTS}
    assert names - modules == {"train.grpo", "train.sft"}
    assert COMMANDS["train"] == "train.grpo_command:main"
    assert COMMANDS["sft"] == "train.sft_command:main"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"longvideo-env {PROJECT['project']['version']}\n"


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("longvideo-env ev", {"evaluate"}),
        ("longvideo-env power --per", {"--per-video"}),
        ("longvideo-env train --max", {"--max_steps", "--max-turns"}),
    ],
)
def test_shells_complete_commands_and_options(typed: str, wanted: set[str], tmp_path: Path) -> None:
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"),
        "COMP_TYPE": "9",
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)),
    }
    command = [sys.executable, "-m", "longvideo_env.commands.main"]
    subprocess.run(command, cwd=ROOT, env=os.environ | asked, check=True)
    answer = (tmp_path / "answer").read_text(encoding="utf-8").split("\n")
    assert wanted <= {word.strip() for word in answer}


def test_help_has_a_place_for_every_command() -> None:
    assert sorted(" ".join(GROUPS.values()).split()) == sorted(COMMANDS)


def test_help_of_a_command_does_not_import_torch() -> None:
    modules = {COMMANDS[name].partition(":")[0] for name in COMMANDS.keys() - TRAINING}
    code = f"""
import sys
from importlib import import_module
for module in {sorted(modules)}:
    try:
        import_module(module).main(["--help"])
    except SystemExit as end:
        assert not end.code, module
    assert not {{"torch", "trl", "transformers"}} & sys.modules.keys(), module
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") >= len(modules)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_puts_its_checkout_first(script: Path) -> None:
    depth = len(script.parts) - 1
    line = rf"sys\.path\.insert\(0, str\(Path\(__file__\)\.resolve\(\)\.parents\[{depth}\]\)\)"
    found = re.search(line, (ROOT / script).read_text(encoding="utf-8"))
    assert found, f"{script} may import an installed copy"


@pytest.mark.parametrize("script", ["eval/compare.py", "train/grpo.py"])
def test_a_script_never_mixes_with_an_installed_copy(script: str, tmp_path: Path) -> None:
    for package in ("longvideo_env", "train", "eval", "agents"):  # as an installed copy would lie
        (tmp_path / package).mkdir()
        text = "raise SystemExit('the installed copy was imported')\n"
        (tmp_path / package / "__init__.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--nonsense", "x"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "nonsense" in done.stderr + done.stdout or "required" in done.stderr
    assert "installed copy" not in done.stderr
