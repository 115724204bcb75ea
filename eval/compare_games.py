r"""Play every game with one policy, with the same questions and agents, and compare the games.

    longvideo-env compare-games --policy teacher:mini --dataset mini --split test --limit 150
    longvideo-env compare-games --policy openai:gpt-4o --dataset DIR --vision openai:gpt-4o \
        --games longvideoagent,dvd --out runs/games

The options are those of `longvideo-env evaluate`. Given options (agents, window, turns, reward)
apply to every game. Each game keeps its own defaults for the others. Each game is a run with its
own folder under --out. `games.json` and `games.md` hold the table. The same command resumes an
interrupted run.

Each game is compared with the first game of the table, question by question. Interval and p are
clustered by video. p is Holm's for all games. Film: the seconds of the video that were shown or
described, each counted once. Tokens: the tokens that the policy sampled.

If the policy cannot play a game, the game has no row, and the reason is printed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.box import MARKDOWN
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.generation.settings import GenerationSettings
from eval.ablations import share_recording
from eval.metrics.cost import episode_cost, mean_cost
from eval.metrics.pairs import add_holm, count_folders
from eval.metrics.summary import accuracy_interval
from eval.output.comparisons import format_p, format_signed_interval
from eval.output.formatting import format_interval, format_number
from eval.runs.failures import failure_lines
from eval.runs.naming import folder_name
from eval.runs.progress import EpisodeProgress
from eval.runs.run_options import RunOptions, build_parser, read_options, settings_of
from eval.runs.session import open_session, play_split
from eval.runs.store import EPISODES
from longvideo_env import EnvConfig
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import take_fields
from longvideo_env.commands.shared import run_command
from longvideo_env.commands.typeset import markdown_lines, output_console
from longvideo_env.errors import SpecError
from longvideo_env.records.files import write_json, write_text
from longvideo_env.records.trajectory import read_lines
from longvideo_env.specs import entry_point_names, find_part

FIRST = "longvideoagent"
"""The game that the others are compared with, if it is played."""


@dataclass(frozen=True)
class GameRow:
    """A game that was played.

    Attributes:
        game: Its name.
        summary: Its run's summary.
        tool_calls: Mean number of tool calls per episode.
        tokens: Mean number of sampled tokens per episode. None for a policy without tokens.
        film_s: Mean seconds of the video that were shown or described per episode.
        usd: Mean cost per episode. None if no call has a price.
        against_first: Its difference to the first game, from `eval.metrics.pairs.count`. None for
            the first itself.
    """

    game: str
    summary: dict[str, Any]
    tool_calls: float | None
    tokens: float | None
    film_s: float | None
    usd: float | None
    against_first: dict[str, Any] | None = None


def parse_options(
    argv: Sequence[str] | None,
) -> tuple[RunOptions, list[tuple[str, EnvConfig, GenerationSettings]]]:
    """Read the command line: the run, and each game with its options.

    Raises:
        SpecError: An option is invalid.
    """
    parser = build_parser("longvideo-env compare-games", __doc__, several=False)
    parser.add_argument(
        "--games",
        metavar="NAMES",
        help="Games, separated by commas: names, or module:attribute. Default: all installed.",
    )
    options = vars(parser.parse_args(argv))
    if options["game"] is not None:
        raise SpecError("--game names a single game. Fix: give --games NAME,NAME instead.")
    names = _games(options["games"])
    run, config, _ = read_options({**options, "game": names[0]})
    given = take_fields(EnvConfig, options)
    given |= {name: getattr(config, name) for name in ("dataset", "recording_file")}
    wanted = take_fields(GenerationSettings, options)
    return run, [
        (name, EnvConfig.from_mapping({**given, "game": name}), settings_of(name, wanted))
        for name in names
    ]


def _games(wanted: str | None) -> list[str]:
    if wanted:
        names = [name.strip() for name in wanted.split(",") if name.strip()]
    else:
        names = sorted(entry_point_names("games"), key=lambda name: (name != FIRST, name))
    for name in names:
        find_part("games", name)
    if not names:
        raise SpecError("expected --games NAME,NAME, got none.")
    return list(dict.fromkeys(names))


async def play_games(
    run: RunOptions,
    games: Sequence[tuple[str, EnvConfig, GenerationSettings]],
    stderr: Console,
) -> tuple[list[GameRow], dict[str, str]]:
    """Play each game. Returns the rows, and the reasons of games that could not be played."""
    (policy,) = run.policies
    rows: list[GameRow] = []
    refused: dict[str, str] = {}
    with EpisodeProgress(stderr) as progress:
        for name, config, settings in games:
            folder = run.out / folder_name(name)
            try:
                session = open_session(run, share_recording(config, run.out), settings)
                summary = await play_split(policy, session, folder, progress, name)
            except SpecError as error:
                refused[name] = str(error)
                continue
            rows.append(_row(name, summary, folder))
    for line in (*progress.notes, *(s for row in rows for s in failure_lines(row.summary))):
        stderr.print(line, markup=False, highlight=False, soft_wrap=True)
    return _compared(rows, run.out), refused


def _row(name: str, summary: dict[str, Any], folder: Path) -> GameRow:
    records = [json.loads(line) for line in read_lines(folder / EPISODES)]
    cost = mean_cost([episode_cost(record) for record in records])
    seen = [record["seen_s"] for record in records if record.get("seen_s") is not None]
    film = sum(seen) / len(seen) if seen else None
    return GameRow(name, summary, cost["tool_calls"], cost["tokens"], film, cost["usd"])


def _compared(rows: list[GameRow], out: Path) -> list[GameRow]:
    """Compare each other row with the first, with Holm's p for all."""
    folders = [out / folder_name(row.game) for row in rows]
    counted = [count_folders(folders[0], folder) for folder in folders[1:]]
    add_holm([numbers for numbers in counted if numbers is not None])
    return rows[:1] + [
        GameRow(**{**vars(row), "against_first": numbers})
        for row, numbers in zip(rows[1:], counted, strict=True)
    ]


def make_table(rows: Sequence[GameRow], **style: Any) -> Table:
    """A table with one row per game.

    Args:
        rows: The games.
        style: Arguments of `rich.table.Table`.
    """
    table = Table(**style)
    table.add_column("game", no_wrap=True)
    for heading in (
        *("accuracy", "95% CI", "less first", "95% CI", "p (Holm)", "turns", "calls"),
        *("tokens", "film, s", "USD", "failed", "n"),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        summary, other = row.summary, row.against_first
        table.add_row(
            escape(row.game),
            format_number(summary["accuracy"]),
            format_interval(accuracy_interval(summary)),
            "-" if other is None else f"{other['difference']:+.3f}",
            "-" if other is None else format_signed_interval(other["difference_ci95"]),
            "-" if other is None else format_p(other["p_holm"]),
            format_number(summary["mean_turns"], 2),
            format_number(row.tool_calls, 2),
            format_number(row.tokens, 0),
            format_number(row.film_s, 1),
            format_number(row.usd, 5),
            str(summary["n_failed"]),
            str(summary["n_finished"]),
        )
    return table


def write_report(
    rows: Sequence[GameRow], refused: Mapping[str, str], run: RunOptions, config: EnvConfig
) -> None:
    """Write `games.json` and `games.md` into the folder of all games."""
    (policy,) = run.policies
    numbers = {
        "policy": policy,
        "dataset": config.dataset,
        "split": config.split,
        "seed": run.seed,
        "grounding": config.grounding,
        "vision": config.vision,
        "games": {row.game: {k: v for k, v in vars(row).items() if k != "game"} for row in rows},
        "not_played": dict(refused),
    }
    write_json(run.out / "games.json", numbers)
    table = markdown_lines(make_table(rows, box=MARKDOWN))
    lines = [f"# {_heading(run, config)}", "", *table, "", *_refusals(refused)]
    write_text(run.out / "games.md", "\n".join(lines) + "\n")


def _refusals(refused: Mapping[str, str]) -> list[str]:
    return [f"not played: {name}: {reason}" for name, reason in refused.items()]


def _heading(run: RunOptions, config: EnvConfig) -> str:
    agents = f"grounding {config.grounding}, vision {config.vision}"
    return f"{run.policies[0]} on {config.dataset}, split {config.split}, {agents}"


def _run(argv: Sequence[str] | None) -> int:
    run, games = parse_options(argv)
    stderr, stdout = Console(stderr=True), output_console()
    rows, refused = asyncio.run(play_games(run, games, stderr))
    config = games[0][1]
    write_report(rows, refused, run, config)
    stdout.print(make_table(rows, title=escape(_heading(run, config)), title_justify="left"))
    for line in (
        *_refusals(refused),
        f"Episodes, summaries, games.json and games.md: {run.out}",
    ):
        stdout.print(line, highlight=False, markup=False, soft_wrap=True)
    return EXIT_FINDINGS if any(row.summary["n_failed"] for row in rows) else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    return run_command("compare-games", lambda: _run(argv), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
