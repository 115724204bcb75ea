"""The options of every command that plays episodes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from agents.cluster.joining import RayOptions, add_ray_options, read_ray
from agents.generation.settings import GenerationSettings
from agents.policies.build import POLICY_SPECS, check_policy_spec, game_of
from eval.runs.budgets import Budget
from eval.runs.checkpoints import expand_policies
from eval.runs.selection import QuestionSelection
from longvideo_env import EnvConfig
from longvideo_env.commands.options import OptionParser, add_fields, take_fields
from longvideo_env.commands.splits import DEFAULT_SPLIT
from longvideo_env.datasets.altered import PREFIX
from longvideo_env.errors import SpecError
from longvideo_env.game.reward import parse_reward
from longvideo_env.specs import find_part
from longvideo_env.strict import check_fields

OUT = Path("runs/eval")
"""The default of --out."""

RECORDING = "recording.sqlite"
"""The recording's file under --out, unless --recording-file is given."""


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of a split's questions.

    Attributes:
        index: The part's number, from 1.
        count: The number of parts.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Read a shard such as `2/4`.

    Raises:
        SpecError: The text is not a shard.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise SpecError(f"expected --shard I/N with I from 1 to N, such as 1/4, got {text!r}.")
    return Shard(int(index), int(count))


@dataclass(frozen=True)
class RunOptions:
    """The options of a run besides the environment and the generation settings."""

    policies: list[str]
    out: Path
    seed: int
    concurrency: int
    overwrite: bool
    samples: int = 1
    stop_after_failures: int = 20
    shard: Shard | None = None
    selection: QuestionSelection = field(default_factory=QuestionSelection)
    budget: Budget = field(default_factory=Budget)
    episode_budget: Budget = field(default_factory=Budget)
    fail_above: float | None = None
    ray: RayOptions | None = None
    allow_blind: bool = False

    def __post_init__(self) -> None:
        check_fields(self, leave={"policies"})
        for name, least in (("concurrency", 1), ("samples", 1), ("stop_after_failures", 0)):
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise SpecError(f"--{option} must be {least} or more, got {getattr(self, name)}.")
        if self.fail_above is not None and not 0 <= self.fail_above < 1:
            raise SpecError(f"--fail-above must be at least 0 and below 1, got {self.fail_above}.")


COMMON = (
    "policy", "dataset", "split", "out", "limit", "samples", "seed", "overwrite", "config",
    "grounding", "vision", "max-turns", "tools", "protocol", "reward", "questions", "checkpoints",
    "recording", "concurrency", "temperature", "budget-usd", "fail-above", "prompts", "shard",
)  # fmt: skip
"""The options that `--help` shows if it has no room for all."""


def build_parser(
    prog: str, doc: str | None, *, several: bool, findings: str = "some episodes failed"
) -> OptionParser:
    """A command line that takes a policy, an environment and generation settings.

    Args:
        prog: The command's name.
        doc: Its description.
        several: Whether `--policy` may be given several times.
        findings: When the command ends with exit code 3.
    """
    parser = OptionParser(prog, doc, config=True, common=COMMON, tables=True, findings=findings)
    run = parser.add_argument_group("run")
    run.add_argument(
        "--policy",
        action="append" if several else "store",
        metavar="SPEC",
        help=f"Master agent{' (may be repeated)' if several else ''}: {', '.join(POLICY_SPECS)}.",
    )
    if several:
        run.add_argument(
            "--checkpoints",
            metavar="RUN",
            help="Output folder of a training. Plays each of its checkpoints, as "
            "--policy 'hf:RUN/checkpoint-*' does, and draws accuracy against steps.",
        )
    run.add_argument(
        "--out",
        type=Path,
        default=OUT,
        metavar="DIR",
        help=f"Folder of the runs. Default: {OUT}.",
    )
    _add_selection(run)
    run.add_argument(
        "--samples",
        type=int,
        default=1,
        metavar="N",
        help="Samples per question, for avg@N, pass@N and majority@N. Default: 1.",
    )
    run.add_argument(
        "--shard",
        metavar="I/N",
        help="Play only part I of N equal parts of the questions, in its own folder. "
        "longvideo-env merge joins the parts.",
    )
    run.add_argument(
        "--seed",
        type=int,
        default=0,
        help="Random seed. It also seeds --dataset mini: with --seed 3 the dataset is mini:seed=3, "
        "unless it names its own seed. Default: 0.",
    )
    run.add_argument(
        "--concurrency", type=int, default=64, metavar="C", help="Episodes in flight. Default: 64."
    )
    run.add_argument(
        "--stop-after-failures",
        type=int,
        default=20,
        metavar="N",
        help="Stop after N failed episodes in a row with the same reason. 0: never. Default: 20.",
    )
    run.add_argument("--overwrite", action="store_true", help="Start again instead of resuming.")
    run.add_argument(
        "--allow-blind",
        action="store_true",
        help="Run even if the vision or grounding agent has no input: no frames, captions or "
        "lines in any video. By default such a run does not start.",
    )
    _add_budgets(parser)
    add_ray_options(
        parser,
        "Play on a Ray cluster. auto joins this machine's cluster, or starts one. local always "
        "starts one. --concurrency is then per worker.",
    )
    environment = parser.add_argument_group("environment")
    add_fields(environment, EnvConfig, split=DEFAULT_SPLIT, undecided=["game"])
    add_fields(
        parser.add_argument_group("generation (hf:PATH, vllm:PATH, openai:MODEL)"),
        GenerationSettings,
        undecided=[item.name for item in fields(GenerationSettings)],
    )
    return parser


def _add_selection(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--questions",
        metavar="WHICH",
        help="Only these questions: ids and ranges of ids (12,40-60), @FILE with one id per line, "
        "or failed:RUN or wrong:RUN for the failed or wrongly answered questions of a run.",
    )
    group.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="Only N questions, drawn so that each video has its share.",
    )
    group.add_argument(
        "--shuffle",
        type=int,
        metavar="SEED",
        help="Seed of the draw of --limit (default: 0). Questions are also played in the drawn "
        "order, so a run that is stopped early is a fair sample.",
    )


BUDGETS = {"tokens": (int, "N", "Tokens"), "seconds": (float, "S", "Seconds"),
           "usd": (float, "USD", "US dollars")}  # fmt: skip
"""The fields of `Budget`: type, metavar, and name in the help."""


def _add_budgets(parser: OptionParser) -> None:
    group = parser.add_argument_group(
        "budgets", "When a budget is used up, finished episodes are kept. The command resumes."
    )
    for name, (kind, metavar, label) in BUDGETS.items():
        group.add_argument(
            f"--budget-{name}",
            type=kind,
            metavar=metavar,
            help=f"{label} of a run. No episode starts that would exceed them.",
        )
    ends = {"seconds": "fails", **dict.fromkeys(("tokens", "usd"), "ends unanswered")}
    for name, (kind, metavar, label) in BUDGETS.items():
        group.add_argument(
            f"--episode-budget-{name}",
            type=kind,
            metavar=metavar,
            help=f"{label} of an episode. An episode that exceeds them {ends[name]}.",
        )
    group.add_argument(
        "--fail-above",
        type=float,
        metavar="SHARE",
        help="Stop when more than this share of all requested episodes have failed, such as 0.1.",
    )


def read_options(
    options: Mapping[str, Any],
) -> tuple[RunOptions, EnvConfig, GenerationSettings]:
    """Check the options of `build_parser`.

    Raises:
        SpecError: An option is invalid.
    """
    policies = options["policy"] or []
    if isinstance(policies, str):
        policies = [policies]
    policies = expand_policies(policies, options.get("checkpoints"))
    if not policies:
        raise SpecError("give at least one --policy SPEC, or --checkpoints RUN.")
    for spec in policies:
        check_policy_spec(spec)
    given = take_fields(EnvConfig, options)
    if given.get("game") is None:
        given["game"] = game_of(policies)
    config = EnvConfig.from_mapping(given)
    if config.recording != "off" and config.recording_file is None:
        config = replace(config, recording_file=str(Path(options["out"]) / RECORDING))
    config = replace(config, dataset=fresh_draw(config.dataset, options["seed"]))
    parse_reward(config.reward)
    settings = settings_of(config.game, take_fields(GenerationSettings, options))
    run = RunOptions(
        policies=list(dict.fromkeys(policies)),
        out=Path(options["out"]),
        seed=options["seed"],
        concurrency=options["concurrency"],
        overwrite=options["overwrite"],
        samples=options["samples"],
        stop_after_failures=options["stop_after_failures"],
        shard=None if options["shard"] is None else parse_shard(str(options["shard"])),
        selection=QuestionSelection(options["questions"], options["limit"], options["shuffle"]),
        budget=Budget(**{name: options[f"budget_{name}"] for name in BUDGETS}),
        episode_budget=Budget(**{name: options[f"episode_budget_{name}"] for name in BUDGETS}),
        fail_above=options["fail_above"],
        ray=read_ray(options),
        allow_blind=options["allow_blind"],
    )
    return run, config, settings


def settings_of(game: str, given: Mapping[str, Any]) -> GenerationSettings:
    """Generation settings: given values (not None), then the game's, then the defaults."""
    known = {name: value for name, value in given.items() if value is not None}
    return GenerationSettings(**{**find_part("games", game).generation, **known})


def fresh_draw(dataset: str, seed: int) -> str:
    """Add a run's seed to the dataset `mini`: with seed 3 it becomes `mini:seed=3`.

    A spec that names its own seed does not change. Other datasets do not change either. Seed 0 is
    the default seed of `mini`, so it is not added.
    """
    if dataset.startswith(PREFIX):
        variant, _, whole = dataset.partition("@")
        return f"{variant}@{fresh_draw(whole, seed)}"
    name, _, rest = dataset.partition(":")
    if name != "mini" or seed == 0:
        return dataset
    if "seed" in (part.partition("=")[0].strip() for part in rest.split(",")):
        return dataset
    return f"{dataset}{',' if ':' in dataset else ':'}seed={seed}"
