r"""Ask the grounding agent for the first clip of every question of a split, and record the replies.

    longvideo-env build-grounding --dataset DIR --split train \
        --grounding openai:gpt-4o --out runs/first-clips.sqlite
    longvideo-env build-grounding --dataset DIR --grounding openai:gpt-4o \
        --from-cache grounding_cache_tvqa_plus_grok.json --out runs/first-clips.sqlite

Training and evaluation with `--recording reuse --recording-file runs/first-clips.sqlite` and the
same `--grounding` then ask for no first clip again. The same command resumes: what is recorded is
not asked for again. `--from-cache` takes the JSON file of the published code's grounding cache:
its clips are recorded as replies of `--grounding`, and only what it lacks is asked for (with
--no-ask, not even that). `longvideo-env recording export` makes JSON Lines of the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agents.grounding.api_grounding import named_clip
from longvideo_env import Dataset, EnvConfig, load_dataset
from longvideo_env.commands.exit_codes import EXIT_DONE, EXIT_FINDINGS
from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.datasets.draw_questions import draw_order
from longvideo_env.drivers.rollout import open_episode
from longvideo_env.errors import MalformedFileError, SpecError
from longvideo_env.game.game import Game
from longvideo_env.schema import Task
from longvideo_env.tools.keys import call_key
from longvideo_env.tools.recording import Recording
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import ToolCall, ToolReply
from longvideo_env.tools.toolbox import Toolbox


def first_request(task: Task, dataset: Dataset, config: EnvConfig, seed: int) -> ToolCall:
    """The call for the first clip, as in every episode of the question."""
    request = open_episode(task, dataset, Game.from_config(config), seed).episode.start()
    assert request is not None, "a configuration without grounding was refused above"
    return request


def read_cache(path: Path) -> list[dict[str, Any]]:
    """The entries of the published code's grounding cache.

    Raises:
        MalformedFileError: The file is not such a cache.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MalformedFileError(f"cannot be read as JSON ({error}).", path) from error
    entries = list(found.values()) if isinstance(found, dict) else None
    if entries is None or not all(isinstance(e, dict) and "question" in e for e in entries):
        raise MalformedFileError(
            "expected a grounding cache: a JSON object of entries with `question` and `clip`.", path
        )
    return entries


def take_cache(
    entries: Sequence[dict[str, Any]],
    tasks: Sequence[Task],
    requests: Sequence[ToolCall],
    toolbox: Toolbox,
) -> Counter[str]:
    """Record the entries of a cache.

    Returns the number of usable entries, and reasons for the others.

    A question is found by its text. If several videos have the same question, the entry's video
    decides.
    """
    assert isinstance(toolbox.recording, Recording)
    by_text: dict[str, list[ToolCall]] = {}
    for task, request in zip(tasks, requests, strict=True):
        by_text.setdefault(task.question.text.strip(), []).append(request)
    counts: Counter[str] = Counter()
    for entry in entries:
        clip = str(entry.get("clip") or "").strip()
        wanted = by_text.get(str(entry["question"]).strip(), [])
        if len(wanted) > 1:
            # The entry's clip id starts with the id of its video.
            name = str(entry.get("vid_name") or clip)
            wanted = [r for r in wanted if name.startswith(f"{r.video.video_id}_")]
        if not wanted:
            counts["question not in this split"] += 1
        for request in wanted:
            found = named_clip(f"<clip>{clip}</clip>", request.video.clip_ids) if clip else None
            if found is None:
                counts["no clip of the video"] += 1
                continue
            reply = ToolReply(view=found, details={"imported": True})
            toolbox.recording.put(_key(request, toolbox), reply, replace=False)
            counts["taken"] += 1
    return counts


async def ask_missing(
    requests: Sequence[ToolCall], toolbox: Toolbox, concurrency: int, console: Console
) -> Counter[str]:
    """Request every first clip that is not recorded. Returns failures by reason."""
    todo = iter(requests)
    errors: Counter[str] = Counter()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("first clips", total=len(requests), state="")

        async def work() -> None:
            for request in todo:
                result = await toolbox.call(request)
                if not result.ok:
                    errors[str(result.error)] += 1
                state = f"{errors.total()} failed" if errors else ""
                progress.update(bar, advance=1, state=state)

        await asyncio.gather(*(work() for _ in range(min(concurrency, len(requests)))))
    return errors


def missing(requests: Sequence[ToolCall], toolbox: Toolbox) -> Iterator[ToolCall]:
    """The requests whose replies are not recorded."""
    assert isinstance(toolbox.recording, Recording)
    for request in requests:
        if not toolbox.recording.holds(_key(request, toolbox)):
            yield request


def _key(request: ToolCall, toolbox: Toolbox) -> Mapping[str, Any]:
    return call_key(toolbox.agents["grounding"], toolbox.specs["grounding"], request)


def build_parser() -> OptionParser:
    """The command line."""
    parser = OptionParser(
        prog="longvideo-env build-grounding",
        description=__doc__,
        findings="the agent failed on some questions",
    )
    add = parser.add_argument
    add("--dataset", required=True, metavar="DIR", help="The dataset, as for eval/run_policy.py.")
    add("--split", default="train", help="Its split. Default: train.")
    add("--grounding", default="bm25", metavar="SPEC", help="The agent that is asked.")
    add("--out", type=Path, required=True, metavar="FILE", help="The recording.")
    add("--from-cache", type=Path, metavar="JSON", help="A grounding cache of the published code.")
    add("--ask", action=argparse.BooleanOptionalAction, default=True, help="Ask the agent at all.")
    add("--seed", type=int, default=0, help="The seed of the runs that will use it. Default: 0.")
    add("--limit", type=int, metavar="N", help="N questions, drawn over the videos as by evaluate.")
    add("--shuffle", type=int, default=0, metavar="SEED", help="Seed of that draw. Default: 0.")
    add("--concurrency", type=int, default=64, metavar="C", help="Calls at once. Default: 64.")
    add("--skip-invalid", action="store_true", help="Leave invalid rows out.")
    return parser


def _open(options: argparse.Namespace) -> tuple[EnvConfig, Dataset, Toolbox]:
    config = EnvConfig(
        dataset=options.dataset,
        split=options.split,
        grounding=options.grounding,
        vision="none",
        skip_invalid=options.skip_invalid,
        recording="reuse",
        recording_file=str(options.out),
    )
    if config.grounding in ("none", "oracle"):
        raise SpecError(f"--grounding {config.grounding} needs no recording of first clips.")
    if options.concurrency < 1:
        raise SpecError(f"--concurrency must be at least 1, got {options.concurrency}.")
    if options.limit is not None and options.limit < 1:
        raise SpecError(f"--limit must be at least 1, got {options.limit}.")
    dataset = load_dataset(config.dataset, config.split, skip_invalid=config.skip_invalid)
    return config, dataset, build_toolbox(config, dataset)


def _run(options: argparse.Namespace) -> int:
    stderr, stdout = Console(stderr=True, soft_wrap=True), Console(soft_wrap=True)
    config, dataset, toolbox = _open(options)
    tasks = dataset.tasks
    if options.limit is not None:
        drawn = draw_order(dataset, range(len(dataset)), options.shuffle)[: options.limit]
        tasks = [dataset.tasks[i] for i in sorted(drawn)]
    requests = [first_request(task, dataset, config, options.seed) for task in tasks]
    if options.from_cache is not None:
        counts = take_cache(read_cache(options.from_cache), tasks, requests, toolbox)
        taken = ", ".join(f"{what}: {n:,}" for what, n in counts.items())
        stdout.print(f"{options.from_cache}: {taken}", markup=False, highlight=False)
    errors: Counter[str] = Counter()
    if options.ask:
        left = list(missing(requests, toolbox))
        errors = asyncio.run(ask_missing(left, toolbox, options.concurrency, stderr))
    for error, n in errors.most_common(5):
        stderr.print(f"failed ({n}): {error}", style="yellow", markup=False, highlight=False)
    there = len(requests) - sum(1 for _ in missing(requests, toolbox))
    stdout.print(
        f"{there:,} of {len(requests):,} first clips are in {options.out}",
        markup=False,
        highlight=False,
    )
    return EXIT_FINDINGS if errors else EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    options = build_parser().parse_args(argv)
    return run_command("build-grounding", lambda: _run(options), resumes=True)


if __name__ == "__main__":
    sys.exit(main())
