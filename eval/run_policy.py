"""Play the questions of a split with one or more policies, and sum up how they did.

    python eval/run_policy.py --policy scripted:ground-look-answer --policy random --out runs/demo
    python eval/run_policy.py --policy hf:runs/grpo-tiny --dataset DIR --split val --out runs/tiny

Each policy gets a folder under --out: `episodes.jsonl` (one line an episode, written as they
finish), `summary.json` and `config.json`. The same command resumes an interrupted run, and plays
failed episodes again.

Exit codes: 0 done; 2 bad arguments or data; 3 finished, but some episodes failed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.policies import POLICY_SPECS, build_policy, check_policy_spec
from agents.settings import GenerationSettings
from eval.cli import add_fields, parse_with_config, take_fields
from eval.metrics import summarize
from eval.progress import EpisodeProgress
from eval.store import RunStore, run_folder
from longvideo_env import Dataset, EnvConfig, RolloutEngine, Task, load_dataset
from longvideo_env.errors import LongVideoEnvError, SpecError
from longvideo_env.prompts import PROMPT_VERSION
from longvideo_env.reward import parse_reward
from longvideo_env.specs import build_toolbox
from longvideo_env.tools import Toolbox

TABLE_WIDTH = 130
EXIT_DONE, EXIT_BAD_INPUT, EXIT_FAILURES, EXIT_INTERRUPTED = 0, 2, 3, 130


@dataclass(frozen=True)
class RunOptions:
    """What a run needs besides the environment and the generation settings."""

    policies: list[str]
    out: Path
    limit: int | None
    seed: int
    concurrency: int
    overwrite: bool


@dataclass(frozen=True)
class Session:
    """What all policies of one call share."""

    run: RunOptions
    config: EnvConfig
    settings: GenerationSettings
    dataset: Dataset
    toolbox: Toolbox

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The questions asked for."""
        return self.dataset.tasks[: self.run.limit]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    doc = (__doc__ or "").replace("%", "%%")
    parser = argparse.ArgumentParser(
        prog="run_policy.py",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--policy",
        action="append",
        metavar="SPEC",
        help=f"Master agent; may be given several times: {', '.join(POLICY_SPECS)}.",
    )
    run.add_argument("--out", type=Path, metavar="DIR", help="Where the runs' folders go.")
    run.add_argument("--limit", type=int, metavar="N", help="Only the first N questions.")
    run.add_argument("--seed", type=int, default=0, help="Seed of everything drawn. Default: 0.")
    run.add_argument(
        "--concurrency", type=int, default=64, metavar="C", help="Episodes in flight. Default: 64."
    )
    run.add_argument("--overwrite", action="store_true", help="Start anew instead of resuming.")
    add_fields(parser.add_argument_group("environment"), EnvConfig, split="val")
    add_fields(parser.add_argument_group("generation (hf:PATH)"), GenerationSettings)
    return parser


def parse_options(argv: Sequence[str] | None) -> tuple[RunOptions, EnvConfig, GenerationSettings]:
    """Read the command line.

    Raises:
        SpecError: An option has no meaning.
    """
    options = parse_with_config(build_parser(), None if argv is None else list(argv))
    policies = options["policy"] or []
    if isinstance(policies, str):
        policies = [policies]
    if not policies or options["out"] is None:
        raise SpecError("give at least one --policy SPEC, and --out DIR.")
    for spec in policies:
        check_policy_spec(spec)
    if options["concurrency"] < 1:
        raise SpecError(f"--concurrency must be at least 1, got {options['concurrency']}.")
    if options["limit"] is not None and options["limit"] < 1:
        raise SpecError(f"--limit must be at least 1, got {options['limit']}.")
    config = EnvConfig.from_mapping(take_fields(EnvConfig, options))
    parse_reward(config.reward)
    settings = GenerationSettings(**take_fields(GenerationSettings, options))
    run = RunOptions(
        policies=list(dict.fromkeys(policies)),
        out=Path(options["out"]),
        limit=options["limit"],
        seed=options["seed"],
        concurrency=options["concurrency"],
        overwrite=options["overwrite"],
    )
    return run, config, settings


async def run_policy(spec: str, session: Session, progress: EpisodeProgress) -> dict[str, Any]:
    """Play a split with one policy, keep every episode, and return the summary."""
    run = session.run
    folder = run_folder(run.out, spec, run.policies)
    with RunStore(folder, _fingerprint(spec, session), overwrite=run.overwrite) as store:
        earlier, start = store.earlier_wall_s, time.perf_counter()
        try:
            await _play(spec, session, store, progress)
        finally:
            summary = _summary(spec, session, store)
            summary["wall_s"] = round(earlier + time.perf_counter() - start, 3)
            store.finish(summary, [_key(task) for task in session.tasks])
    return summary


async def _play(spec: str, session: Session, store: RunStore, progress: EpisodeProgress) -> None:
    done = [store.episodes[key] for task in session.tasks if (key := _key(task)) in store.episodes]
    progress.start(spec, total=len(session.tasks), done=done)
    jobs = [(task, 0) for task in session.tasks if _key(task) not in store.episodes]
    if not jobs:
        return
    policy = build_policy(spec, session.settings)
    try:
        engine = RolloutEngine(
            dataset=session.dataset,
            config=session.config,
            toolbox=session.toolbox,
            policy=policy,
            policy_spec=spec,
            seed=session.run.seed,
            concurrency=min(session.run.concurrency, len(jobs)),
        )
        async for trajectory in engine.play_all(jobs):
            store.add(trajectory)
            progress.advance(trajectory)
    finally:
        await policy.aclose()


def _key(task: Task) -> tuple[str, int]:
    return str(task.qid), 0


def _summary(spec: str, session: Session, store: RunStore) -> dict[str, Any]:
    keys = [_key(task) for task in session.tasks]
    config = session.config
    return {
        "policy": spec,
        "dataset": config.dataset,
        "split": config.split,
        "grounding": config.grounding,
        "vision": config.vision,
        "oracle": config.grounding == "oracle",
        "n_skipped_rows": len(session.dataset.skipped),
        **summarize([store.episodes[key] for key in keys if key in store.episodes], len(keys)),
    }


def _fingerprint(spec: str, session: Session) -> dict[str, Any]:
    """What makes two calls one run. The limit is left out: a run may be extended."""
    generation = asdict(session.settings) if spec.startswith("hf:") else {}
    generation.pop("max_batch_size", None)  # changes the speed, not the episodes
    return {
        "policy": spec,
        "seed": session.run.seed,
        "prompt_version": PROMPT_VERSION,
        **asdict(session.config),
        **generation,
    }


def print_table(summaries: Sequence[dict[str, Any]], console: Console) -> None:
    """The runs side by side."""
    table = Table(title=None)
    table.add_column("policy")
    names = (
        "accuracy",
        "95% CI",
        "grounding",
        "first clip",
        "turns",
        "malformed",
        "failed",
        "n",
        "s",
    )
    for name in names:
        table.add_column(name, justify="right")
    for row in summaries:
        interval = row["accuracy_ci95"]
        table.add_row(
            row["policy"] + (" (oracle)" if row["oracle"] else ""),
            _number(row["accuracy"]),
            "-" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}",
            _number(row["grounding_accuracy"]),
            _number(row["grounding_accuracy_first"]),
            _number(row["mean_turns"], 2),
            _number(row["malformed_rate"]),
            str(row["n_failed"]),
            str(row["n_finished"]),
            f"{row['wall_s']:.1f}",
        )
    console.print(table)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


async def run_all(run: RunOptions, config: EnvConfig, settings: GenerationSettings) -> int:
    """Run every policy and print the table. Returns the exit code."""
    dataset = load_dataset(
        config.dataset,
        config.split,
        frames_root=config.frames_root,
        skip_invalid=config.skip_invalid,
    )
    if not dataset.tasks:
        raise SpecError(f"split {config.split!r} of {config.dataset!r} holds no questions.")
    session = Session(run, config, settings, dataset, build_toolbox(config, dataset))
    stderr = Console(stderr=True)
    for error in dataset.skipped:
        stderr.print(f"left out: {error}", style="yellow", markup=False, highlight=False)
    summaries = []
    with EpisodeProgress(stderr) as progress:
        for spec in run.policies:
            summaries.append(await run_policy(spec, session, progress))
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)  # a pipe or a log file has no width of its own
    print_table(summaries, console)
    console.print(
        f"Episodes and summaries: {run.out}", highlight=False, markup=False, soft_wrap=True
    )
    return EXIT_FAILURES if any(row["n_failed"] for row in summaries) else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    try:
        run, config, settings = parse_options(argv)
        return asyncio.run(run_all(run, config, settings))
    except LongVideoEnvError as error:
        print(f"run_policy: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("run_policy: interrupted; the same command resumes.", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
