"""The commands' `--help`."""

from argparse import SUPPRESS, ArgumentParser, _SubParsersAction
from importlib import import_module

import pytest

from eval.runs.run_options import build_parser
from tests.test_commands import COMMANDS

MODULES = (
    "agents.ask",
    "agents.describe",
    "agents.doctor",
    "agents.grounding.build_grounding",
    "eval.baseline",
    "eval.compare",
    "eval.film_chat",
    "eval.merge",
    "eval.bundle.card",
    "eval.bundle.packing",
    "eval.bundle.run_table",
    "eval.bundle.verify",
    "eval.plots",
    "eval.recall",
    "eval.report.command",
    "eval.rescore",
    "longvideo_env.commands.data.prepare",
    "longvideo_env.commands.data.ingest",
    "eval.leaks",
    "longvideo_env.commands.data.mini",
    "longvideo_env.commands.play",
    "longvideo_env.commands.data.questions",
    "longvideo_env.commands.data.show",
    "longvideo_env.commands.data.submission",
    "longvideo_env.commands.doors.serve",
    "longvideo_env.commands.recordings",
)


def silent(parser: ArgumentParser) -> list[str]:
    """The options without a help text."""
    return [
        action.dest
        for action in parser._actions
        if not action.help and not isinstance(action, _SubParsersAction)
    ]


@pytest.mark.parametrize("name", MODULES)
def test_help_can_be_read(name: str) -> None:
    parser = import_module(name).build_parser()
    assert "%%" not in parser.format_help()
    assert not silent(parser)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_fits_a_screen(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, function = COMMANDS[name].partition(":")
    with pytest.raises(SystemExit) as end:
        getattr(import_module(module), function)(["--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    assert text.count("\n") < 45
    assert text.startswith(f"usage: longvideo-env {name}") or name in ("train", "sft")


def test_what_does_not_fit_is_cut_and_help_all_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser("x", "Title.\n\n    x --policy random\n\nMore.", several=True)
    brief = parser.format_help()
    assert brief.startswith("usage: x [OPTIONS]\n\nTitle.\n\n    x --policy random\n")
    assert "--policy SPEC" in brief
    assert "--gpu-memory-utilization" not in brief
    left = int(brief.splitlines()[-1].split()[0])
    shown = brief.count("\n  --")
    assert left + shown == sum(a.help != SUPPRESS and a.dest != "help" for a in parser._actions)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help-all"])
    assert "--gpu-memory-utilization" in capsys.readouterr().out


def test_a_description_is_shown_as_it_was_written() -> None:
    parser = build_parser("x.py", "With a 95 % interval.", several=True)
    assert "With a 95 % interval." in parser.format_help()
    assert not silent(parser)
