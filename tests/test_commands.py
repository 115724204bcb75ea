"""Every command starts with `longvideo-env NAME`, and scripts use their own checkout."""

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("ev", {"evaluate"}),
        ("power --per", {"--per-video"}),
        ("train --max", {"--max-steps", "--max-turns"}),
        ("compare a b --format ", {"csv", "md", "tex"}),
        ("completion ", {"bash", "fish", "zsh"}),
    ],
)
def test_bash_completes_commands_and_options(typed: str, wanted: set[str], tmp_path: Path) -> None:
    door = tmp_path / "longvideo-env"
    door.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m longvideo_env.commands.main "$@"\n')
    door.chmod(0o755)
    script = f"""
eval "$(longvideo-env completion bash)"
COMP_WORDS=(longvideo-env {typed.removesuffix(" ")}{" ''" if typed.endswith(" ") else ""})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_longvideo_env
printf "%s\\n" "${{COMPREPLY[@]}}"
"""
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert wanted <= set(done.stdout.split()), done.stderr
    last = typed.split(" ")[-1]
    assert all(word.startswith(last) for word in done.stdout.split())


def test_completion_scripts_of_other_shells_ask_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for shell in ("zsh", "fish"):
        assert main(["completion", shell]) == 0
        assert "_LONGVIDEO_COMPLETE=" in capsys.readouterr().out


def test_help_has_a_place_for_every_command() -> None:
    assert sorted(" ".join(GROUPS.values()).split()) == sorted(COMMANDS)


def test_the_page_of_commands_lists_each_once() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in page.split("## Options")[0].splitlines()[5:] if line]
    assert sorted(re.findall(r"`([\w-]+)`", "".join(rows))) == sorted(COMMANDS)


@pytest.mark.slow
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


@pytest.mark.slow
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
