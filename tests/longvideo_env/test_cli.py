from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longvideo_env.commands.main import main


def test_help_names_every_command_and_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "mini" in out
    assert "small generated videos" in out.lower()


def test_without_a_command_it_says_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().err


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["minni"]) == 2
    said = "longvideo-env: unknown command 'minni'. Did you mean mini?"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert main(["zzz"]) == 2
    assert "longvideo-env --help lists them." in capsys.readouterr().err


def test_a_command_gets_what_follows_its_name(tmp_path: Path) -> None:
    out = tmp_path / "world"
    command = Path(sys.executable).with_name("longvideo-env")
    subprocess.run([command, "mini", "--out", out, "--videos", "2"], check=True, timeout=60)
    assert (out / "captions.json").is_file()
