"""Write the prompt set of GRPO: the training questions with their first clips and prompt lengths.

    longvideo-env prompt-set --dataset DATA_FOLDER --out runs/prompts --tokenizer Qwen/Qwen2.5-3B-Instruct
    accelerate launch [...] train/grpo.py --questions runs/prompts/train.parquet [...]

Writes `train.parquet`. With `--val-share` it also writes `val.parquet`, with other videos. A row
holds `qid`, `video_id`, `show`, `question`, `options` (all of them), `first_clip` (named by the
grounding agent), `prompt_tokens` (of the first prompt at that clip) and `words` (a hash of the
game's wording). It holds neither the gold answer nor the gold clip. The same seed gives the same
rows.
"""  # noqa: E501 - a command

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the checkout's own packages, not those of an installed copy
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from rich.console import Console
from rich.progress import Progress

from longvideo_env.commands.options import OptionParser
from longvideo_env.commands.shared import run_command
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset, load_dataset
from longvideo_env.drivers.rollout import open_episode
from longvideo_env.errors import (
    DataError,
    MissingExtraError,
    SpecError,
    ToolError,
)
from longvideo_env.game.game import Game
from longvideo_env.schema import Task
from longvideo_env.seeding import derive_seed
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.toolbox import Toolbox
from train.planning.lengths import estimate_tokens, opening

IN_FLIGHT = 32


@dataclass(frozen=True)
class Selection:
    """Which questions to take.

    Attributes:
        limit: The most training questions, drawn at random. None takes all.
        per_video: The most questions of one video, drawn at random.
        val_share: Share of the videos that go to `val`, with all their questions.
        seed: The random seed.
    """

    limit: int | None = None
    per_video: int | None = None
    val_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.val_share < 1:
            raise SpecError(f"val_share must be at least 0 and below 1, got {self.val_share}.")
        for name, value in (("limit", self.limit), ("per_video", self.per_video)):
            if value is not None and value < 1:
                raise SpecError(f"{name} must be at least 1, got {value}.")


def select(tasks: Sequence[Task], selection: Selection) -> dict[str, list[Task]]:
    """The questions of each split, in the dataset's order."""
    by_video: dict[str, list[int]] = defaultdict(list)
    for place, task in enumerate(tasks):
        by_video[task.question.video_id].append(place)
    if selection.per_video is not None:
        by_video = {
            video: _draw(places, selection.per_video, selection.seed, "video", video)
            for video, places in by_video.items()
        }
    n_val = round(len(by_video) * selection.val_share)
    val = set(_draw(list(by_video), n_val, selection.seed, "val"))
    splits = {
        "train": [p for video, places in by_video.items() if video not in val for p in places],
        "val": [p for video, places in by_video.items() if video in val for p in places],
    }
    if selection.limit is not None:
        splits["train"] = _draw(splits["train"], selection.limit, selection.seed, "limit")
    return {name: [tasks[place] for place in sorted(places)] for name, places in splits.items()}


def _draw(items: Sequence[Any], count: int, *seed: int | str) -> list[Any]:
    rng = np.random.default_rng(derive_seed("prepare", *seed))
    order = rng.permutation(len(items))[:count]
    return [items[int(i)] for i in order]


async def make_rows(
    tasks: Sequence[Task],
    dataset: Dataset,
    config: EnvConfig,
    count: Callable[[str], int],
    advance: Callable[[], None],
) -> list[dict[str, Any]]:
    """Make one row per question. At most `IN_FLIGHT` calls of the grounding agent run at a time.

    Raises:
        ToolError: The grounding agent did not name a first clip.
    """
    toolbox, game = build_toolbox(config, dataset), Game.from_config(config)
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def make(task: Task) -> dict[str, Any]:
        async with slots:
            clip_id = await _first_clip(task, dataset, toolbox, game)
        question, video = task.question, dataset.video(task.question)
        messages = opening(question, video, video.window(clip_id, game.window), game)
        advance()
        return {
            "qid": str(task.qid),
            "video_id": question.video_id,
            "show": question.show,
            "question": question.text,
            "options": list(question.options),
            "first_clip": clip_id,
            "prompt_tokens": sum(count(message["content"]) for message in messages),
            "words": game.words.digest,
        }

    return list(await asyncio.gather(*map(make, tasks)))


async def _first_clip(task: Task, dataset: Dataset, toolbox: Toolbox, game: Game) -> str:
    video = dataset.video(task.question)
    call = open_episode(task, dataset, game).episode.start()
    if call is None:
        return video.clip_ids[0]
    result = await toolbox.call(call)
    if result.reply is None or result.reply.clip is None:
        raise ToolError(f"question {task.qid}: no first clip ({result.agent}): {result.error}")
    return result.reply.clip


def write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows. The file appears complete or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_name(path.name + ".partial")
    pq.write_table(pa.Table.from_pylist(list(rows)), partial)
    partial.replace(path)


def read_qids(path: str | Path) -> list[str]:
    """The question ids of a prompt set.

    Raises:
        DataError: The file cannot be read, or is not a prompt set.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return [str(qid) for qid in pq.read_table(path, columns=["qid"])["qid"].to_pylist()]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"not a prompt set: {error}",
            path,
            mend="make one with longvideo-env prompt-set.",
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Write the prompt set. Returns the exit code."""
    args = _parser().parse_args(argv)
    return run_command("prompt-set", lambda: _prepare(args))


def _prepare(args: argparse.Namespace) -> None:
    selection = Selection(args.limit, args.per_video, args.val_share, args.seed)
    config = EnvConfig(
        dataset=args.dataset, split=args.split, grounding=args.grounding, window=args.window
    )
    dataset = load_dataset(config.dataset, config.split, skip_invalid=args.skip_invalid)
    count = _counter(args.tokenizer)
    stderr = Console(stderr=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, tasks in select(dataset.tasks, selection).items():
        if not tasks:
            continue
        with Progress(console=stderr, disable=not stderr.is_terminal) as progress:
            bar = progress.add_task(name, total=len(tasks))
            rows = asyncio.run(
                make_rows(tasks, dataset, config, count, lambda bar=bar: progress.advance(bar))  # type: ignore[misc]
            )
        write_parquet(rows, args.out / f"{name}.parquet")
        lengths = [row["prompt_tokens"] for row in rows]
        videos = len({row["video_id"] for row in rows})
        print(
            f"{args.out / name}.parquet: {len(rows)} questions of {videos} videos, prompts of "
            f"{int(np.median(lengths))} tokens at the median and {max(lengths)} at most"
        )


def _counter(tokenizer: str | None) -> Callable[[str], int]:
    if tokenizer is None:
        return estimate_tokens
    try:
        from agents.generation.hf import load_codec
    except ImportError as error:
        raise MissingExtraError("transformers", "train") from error
    from agents.policies.starter import resolve_model

    codec = load_codec(resolve_model(tokenizer))
    return lambda text: len(codec.encode(text))


def _parser() -> OptionParser:
    parser = OptionParser(prog="longvideo-env prompt-set", description=__doc__)
    parser.add_argument("--dataset", required=True, help="Dataset: a folder, mini or embedded.")
    parser.add_argument("--split", default="train", help="Split of the dataset.")
    parser.add_argument("--out", required=True, type=Path, help="Folder of the parquet files.")
    parser.add_argument("--grounding", default="bm25", help="Agent that names the first clips.")
    parser.add_argument("--window", type=int, default=1, help="Evidence window in clips.")
    parser.add_argument("--limit", type=int, help="The most training questions, at random.")
    parser.add_argument("--per-video", type=int, help="The most questions of one video.")
    parser.add_argument("--val-share", type=float, default=0.0, help="Share of videos held out.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed of the draw.")
    parser.add_argument("--tokenizer", help="Model whose tokenizer counts. Default: an estimate.")
    parser.add_argument("--skip-invalid", action="store_true", help="Leave invalid rows out.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
