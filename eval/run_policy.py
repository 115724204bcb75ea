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

from agents.policies import build_policy, check_policy_spec
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

TABLE_WIDTH = 120
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
        help="Master agent; may be given several times: random, scripted:answer, "
        "scripted:ground-look-answer, hf:PATH.",
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


async def run_policy(
    spec: str,
    run: RunOptions,
    config: EnvConfig,
    settings: GenerationSettings,
    dataset: Dataset,
    progress: EpisodeProgress,
) -> dict[str, Any]:
    """Play a split with one policy, keep every episode, and return the summary."""
    tasks = dataset.tasks[: run.limit]
    store = RunStore(
        run_folder(run.out, spec, run.policies),
        _fingerprint(spec, run, config, settings),
        overwrite=run.overwrite,
    )
    order = [(str(task.qid), 0) for task in tasks]
    jobs = [(task, 0) for task in tasks if (str(task.qid), 0) not in store.episodes]
    progress.start(
        spec, total=len(tasks), done=[store.episodes[k] for k in order if k in store.episodes]
    )
    start, earlier = time.perf_counter(), store.earlier_wall_s
    policy = None
    try:
        if jobs:
            policy = build_policy(spec, settings)
            engine = RolloutEngine(
                dataset=dataset,
                config=config,
                toolbox=build_toolbox(config, dataset),
                policy=policy,
                policy_spec=spec,
                seed=run.seed,
                concurrency=min(run.concurrency, len(jobs)),
            )
            async for trajectory in engine.play_all(jobs):
                store.add(trajectory)
                progress.advance(trajectory)
    finally:
        if policy is not None:
            await policy.aclose()
        summary = _summary(spec, config, store, tasks, dataset)
        summary["wall_s"] = round(earlier + time.perf_counter() - start, 3)
        store.finish(summary, order)
    return summary


def _summary(
    spec: str, config: EnvConfig, store: RunStore, tasks: Sequence[Task], dataset: Dataset
) -> dict[str, Any]:
    wanted = [(str(task.qid), 0) for task in tasks]
    episodes = [store.episodes[key] for key in wanted if key in store.episodes]
    return {
        "policy": spec,
        "dataset": config.dataset,
        "split": config.split,
        "grounding": config.grounding,
        "vision": config.vision,
        "oracle": config.grounding == "oracle",
        "n_skipped_rows": len(dataset.skipped),
        **summarize(episodes, len(tasks)),
    }


def _fingerprint(
    spec: str, run: RunOptions, config: EnvConfig, settings: GenerationSettings
) -> dict[str, Any]:
    """What makes two sessions one run. The limit is left out: a run may be extended."""
    generation = asdict(settings) if ":" in spec and not spec.startswith("scripted:") else {}
    generation.pop("max_batch_size", None)
    return {
        "policy": spec,
        "seed": run.seed,
        "prompt_version": PROMPT_VERSION,
        **asdict(config),
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
    stderr = Console(stderr=True)
    for error in dataset.skipped:
        stderr.print(f"left out: {error}", style="yellow", markup=False, highlight=False)
    summaries = []
    with EpisodeProgress(stderr) as progress:
        for spec in run.policies:
            summaries.append(await run_policy(spec, run, config, settings, dataset, progress))
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
