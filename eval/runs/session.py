"""Playing a split with a policy into a run's folder: what every command that plays shares."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.policies.build import build_policy
from agents.generation.settings import GenerationSettings
from eval.metrics.groups import group_shares
from eval.metrics.summary import summarize
from eval.runs.run_options import RunOptions
from eval.runs.progress import EpisodeProgress
from eval.runs.store import RunStore, shard_folder
from longvideo_env import Dataset, EnvConfig, RolloutEngine, Task, load_dataset
from longvideo_env.errors import SpecError
from longvideo_env.game.words.prompts import PROMPT_VERSION
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.toolbox import Toolbox


@dataclass(frozen=True)
class Session:
    """One environment with its dataset and agents, in which policies play."""

    run: RunOptions
    config: EnvConfig
    settings: GenerationSettings
    dataset: Dataset
    toolbox: Toolbox

    @property
    def tasks(self) -> Sequence[Task]:
        """The questions asked for."""
        tasks = self.dataset.tasks[: self.run.limit]
        shard = self.run.shard
        # Every Nth: shards are equal in size and alike in what they hold.
        return tasks if shard is None else tasks[shard.index - 1 :: shard.count]

    @property
    def jobs(self) -> list[tuple[Task, int]]:
        """The episodes asked for; all samples of a question together, so that they share calls."""
        return [(task, sample) for task in self.tasks for sample in range(self.run.samples)]


def open_session(run: RunOptions, config: EnvConfig, settings: GenerationSettings) -> Session:
    """Load the dataset and build the agents.

    Raises:
        DataError: The dataset cannot be read.
        SpecError: An agent is unknown, or the split holds no questions.
    """
    dataset = load_dataset(
        config.dataset,
        config.split,
        frames_root=config.frames_root,
        skip_invalid=config.skip_invalid,
    )
    if not dataset.tasks:
        raise SpecError(f"split {config.split!r} of {config.dataset!r} holds no questions.")
    return Session(run, config, settings, dataset, build_toolbox(config, dataset))


def print_skipped(dataset: Dataset, console: Console) -> None:
    """Say which rows of the dataset were left out."""
    for error in dataset.skipped:
        console.print(f"left out: {error}", style="yellow", markup=False, highlight=False)


async def play_split(
    spec: str, session: Session, folder: Path, progress: EpisodeProgress, label: str
) -> dict[str, Any]:
    """Play a split with one policy, keep every episode, and return the summary.

    Args:
        spec: The policy.
        session: Where it plays.
        folder: The run's folder; a run that lies there is resumed. A shard has one beside it.
        progress: Where the run's bar is drawn.
        label: What the bar is called.
    """
    fingerprint = _fingerprint(spec, session)
    run, shard = session.run, session.run.shard
    if shard is not None:
        folder = shard_folder(folder, shard.index, shard.count)
    timings = session.config.recording != "replay"
    with RunStore(folder, fingerprint, overwrite=run.overwrite, timings=timings) as store:
        earlier, start = store.earlier_wall_s, time.perf_counter()
        keys = [_key(*job) for job in session.jobs]
        progress.start(
            label, total=len(keys), done=[store.episodes[k] for k in keys if k in store.episodes]
        )
        try:
            await _play_missing(spec, session, store, progress)
        finally:
            summary = _summary(spec, session, store)
            summary["wall_s"] = round(earlier + time.perf_counter() - start, 3)
            store.finish(summary, keys)
    return summary


async def _play_missing(
    spec: str, session: Session, store: RunStore, progress: EpisodeProgress
) -> None:
    jobs = [job for job in session.jobs if _key(*job) not in store.episodes]
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


def _key(task: Task, sample: int) -> tuple[str, int]:
    return str(task.qid), sample


def _summary(spec: str, session: Session, store: RunStore) -> dict[str, Any]:
    keys = [_key(*job) for job in session.jobs]
    played = [store.episodes[key] for key in keys if key in store.episodes]
    # A set of a benchmark has facts on every question; others are not gone through.
    has_facts = bool(session.tasks and session.tasks[0].question.facts)
    config, recording = session.config, session.toolbox.recording
    return {
        "policy": spec,
        "dataset": config.dataset,
        "split": config.split,
        "grounding": config.grounding,
        "vision": config.vision,
        "oracle": config.grounding == "oracle",
        "leaky": config.unsafe_boxes,
        "n_samples": session.run.samples,
        "shard": None if session.run.shard is None else str(session.run.shard),
        "recording": {"mode": config.recording, **(recording.stats.record() if recording else {})},
        "n_skipped_rows": len(session.dataset.skipped),
        "coverage": session.dataset.coverage.as_json(),
        "groups": group_shares(session.tasks, played) if has_facts else {},
        **summarize(played, len(session.tasks)),
    }


def _fingerprint(spec: str, session: Session) -> dict[str, Any]:
    """What makes two calls one run. The limit is left out: a run may be extended."""
    generation = asdict(session.settings) if spec.startswith(("hf:", "vllm:", "openai:")) else {}
    for name in ("max_batch_size", "tensor_parallel_size", "gpu_memory_utilization"):
        generation.pop(name, None)  # changes the speed, not the episodes
    if not spec.startswith("vllm:"):
        generation.pop("max_model_len", None)
    environment = asdict(session.config)
    for name in ("recording", "recording_file"):
        del environment[name]  # where replies come from, not what was asked
    unsafe = environment.pop("unsafe_boxes")
    marks = {"unsafe_boxes": True, "leaky": True} if unsafe else {}
    return {
        "policy": spec,
        "seed": session.run.seed,
        "prompt_version": PROMPT_VERSION,
        **environment,
        **marks,
        **generation,
    }
