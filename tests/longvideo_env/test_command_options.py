from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

import longvideo_env
from longvideo_env.commands.options import OptionParser, add_fields
from longvideo_env.config import EnvConfig


def parser() -> OptionParser:
    made = OptionParser("x", config=True)
    add_fields(made, EnvConfig)
    made.add_argument("runs", nargs="*")
    made.add_argument("--overwrite", action="store_true")
    made.add_argument("--name", action="append")
    return made


@pytest.mark.parametrize("words", [["--max-turns", "3"], ["--max_turns", "3"], ["--max_turns=3"]])
def test_dashes_and_underscores_are_one(words: list[str]) -> None:
    assert parser().parse_args(words).max_turns == 3


@pytest.mark.parametrize(
    ("words", "on"),
    [
        (["--skip-invalid"], True),
        (["--skip_invalid", "true"], True),
        (["--skip-invalid=false"], False),
        (["--skip_invalid", "False"], False),
        (["--no-skip-invalid"], False),
        (["--no_skip_invalid"], False),
    ],
)
def test_a_switch_is_written_in_any_form(words: list[str], on: bool) -> None:
    assert parser().parse_args(words).skip_invalid is on


def test_a_switch_leaves_what_follows_alone() -> None:
    options = parser().parse_args(["--overwrite", "runs/a", "--", "--overwrite"])
    assert (options.overwrite, options.runs) == (True, ["runs/a", "--overwrite"])


def test_flags_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("max_turns: 3\nskip-invalid: true\nname: [a, b]\nreward: null\n")
    options = parser().parse_args(["--config", str(file), "--no-skip-invalid"])
    assert (options.max_turns, options.skip_invalid, options.name) == (3, False, ["a", "b"])
    assert parser().parse_args([f"--config={file}", "--name", "c"]).name == ["c"]


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--max-turn", "3"], "x: unknown option --max-turn. Did you mean --max-turns?", 2),
        (["--max_turns", "few"], "x: argument --max-turns: invalid int value: 'few'", 2),
        (["--config", "none.yaml"], "x: --config none.yaml cannot be read", 1),
        (["--config"], "x: --config expects the path of a YAML file.", 2),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=str(code)):
        parser().parse_args(words)
    *usage, last = capsys.readouterr().err.splitlines()
    assert last.startswith(message)
    assert len(usage) == code - 1  # the usage, in one line, where it was wrong


def test_every_command_can_be_reached() -> None:
    points = {point.name: point for point in entry_points(group="longvideo_env.commands")}
    expected = (
        "evaluate train sft compare rescore merge ablations tables plots plot baseline report ask "
        "ingest leaks play prepare recording mini audit merge-adapter build-grounding"
    )
    missing = set(expected.split()) - set(points)
    assert not missing, f"{missing}: run `make setup` again"
    for name in set(expected.split()) - {"merge-adapter"}:  # imports torch
        assert callable(points[name].load())


def test_the_version_can_be_asked() -> None:
    assert longvideo_env.__version__[0].isdigit()
