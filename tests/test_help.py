"""What the commands say of themselves under `--help`."""

from argparse import ArgumentParser, _SubParsersAction
from importlib import import_module

import pytest

from eval.runs.run_options import build_parser

MODULES = (
    "agents.ask",
    "agents.describe",
    "agents.grounding.build_grounding",
    "eval.baseline",
    "eval.compare",
    "eval.film_chat",
    "eval.merge",
    "eval.bundle.card",
    "eval.bundle.packing",
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
    """The options that nothing is said of."""
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


def test_a_description_is_shown_as_it_was_written() -> None:
    parser = build_parser("x.py", "With a 95 % interval.", several=True)
    assert "With a 95 % interval." in parser.format_help()
    assert not silent(parser)
