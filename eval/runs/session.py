"""Play a split with a policy into a run's folder. All commands that play use this."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from agents.cluster.joining import joined_cluster
from agents.generation.settings import GenerationSettings
from agents.known import Gap, find_gaps, refuse_blind
from agents.policies.build import build_policy, check_frames, check_protocol, policy_name
from agents.policies.recorded import recorded
from eval.metrics.benchmark_groups import Facts, group_shares, question_facts
from eval.metrics.gathered import Gathered
from eval.metrics.named_options import NamedOptions
from eval.metrics.summary import summarize
from eval.runs.budgets import EpisodeLimit, SpendingWatch
from eval.runs.failures import FailureWatch, silent_endpoints
from eval.runs.identify import identify, questions_of
from eval.runs.naming import shard_folder
from eval.runs.progress import EpisodeProgress
from eval.runs.run_options import RunOptions
from eval.runs.selection import DRAW, Chosen, choose
from eval.runs.store import RunStore, holds_run
from longvideo_env import Dataset, EnvConfig, RolloutEngine, Task
from longvideo_env.config import WHEN, spec_of
from longvideo_env.datasets.altered import PREFIX
from longvideo_env.datasets.forms import open_questions
from longvideo_env.errors import InputError
from longvideo_env.records.identity import Identity
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.tools.recording import RecordingStats
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.toolbox import Recorder, Toolbox


@dataclass(frozen=True)
class Session:
    """An environment with its dataset and agents, for policies to play in."""

    run: RunOptions
    config: EnvConfig
    settings: GenerationSettings
    dataset: Dataset
    toolbox: Toolbox

    def choose(self, folder: Path) -> RunPlan:
        """The requested episodes of a run in a folder.

        Raises:
            SpecError: A question, file or run of `--questions` does not exist.
        """
        run = self.run
        digests = questions_of(self.dataset)
        chosen = choose(self.dataset, run.selection, digests, None if run.overwrite else folder)
        record = chosen.record(run.selection)
        if run.shard is not None:
            # Every Nth question, so that shards have equal sizes and similar questions.
            part = slice(run.shard.index - 1, None, run.shard.count)
            inside = range(len(chosen.tasks))[part]
            order = [inside.index(i) for i in chosen.order if i in inside]
            tasks, qids = chosen.tasks[part], chosen.qids[part]
            chosen = replace(chosen, tasks=tasks, qids=qids, order=order)
        return RunPlan(chosen, run.samples, record)


@dataclass(frozen=True)
class RunPlan:
    """The requested episodes.

    Attributes:
        chosen: The questions.
        samples: Samples per question.
        selection: The selection over all shards, for the summary.
    """

    chosen: Chosen
    samples: int
    selection: Mapping[str, Any]

    @property
    def tasks(self) -> Sequence[Task]:
        """The questions, in the order of the dataset."""
        return self.chosen.tasks

    @cached_property
    def keys(self) -> list[tuple[str, int]]:
        """`(str(qid), sample)` of all episodes, in the order of the dataset."""
        return [(qid, sample) for qid in self.chosen.qids for sample in range(self.samples)]

    def jobs(self) -> Iterator[tuple[Task, int]]:
        """The episodes in the order of play.

        All samples of a question are played together, so that they share calls.
        """
        for place in self.chosen.order:
            task = self.tasks[place]
            yield from ((task, sample) for sample in range(self.samples))


def open_session(run: RunOptions, config: EnvConfig, settings: GenerationSettings) -> Session:
    """Load the dataset and build the agents.

    Raises:
        DataError: The dataset cannot be read.
        SpecError: An agent is unknown, or the split has no questions.
    """
    dataset = open_questions(config)
    if not dataset.tasks:
        raise InputError(f"split {config.split!r} of {config.dataset!r} has no questions.")
    return Session(run, config, settings, dataset, build_toolbox(config, dataset))


def print_skipped(dataset: Dataset, console: Console) -> None:
    """Print the rows of the dataset that were left out."""
    for error in dataset.skipped:
        console.print(f"left out: {error}", style="yellow", markup=False, highlight=False)


async def play_split(
    spec: Any,
    session: Session,
    folder: Path,
    progress: EpisodeProgress,
    label: str,
    players: FindPlayers | None = None,
) -> dict[str, Any]:
    """Play a split with one policy, save every episode, and return the summary.

    Args:
        spec: The policy: a spec or a function.
        session: The session to play in.
        folder: The run's folder. An existing run is resumed. A shard has its own folder beside it.
        progress: Shows the run's bar.
        label: The bar's label.
        players: Finds the players. By default this process plays, or the cluster of the run.

    Raises:
        SpecError: The policy cannot play the game's protocol, or cannot see its frames.
        BlindAgentError: An agent has no input, and `--allow-blind` is not given.
    """
    name = policy_name(spec)
    check_protocol(spec, session.config.protocol)
    check_frames(spec, session.config.frames)
    fingerprint = _fingerprint(name, session)
    run, shard = session.run, session.run.shard
    if shard is not None:
        folder = shard_folder(folder, shard.index, shard.count)
    timings = session.config.recording != "replay"
    plan = session.choose(folder)
    keys = plan.keys
    blind = _blind(session, plan, begun=holds_run(folder) and not run.overwrite)
    progress.warn(*map(str, blind))
    identity = identify(spec, session.config, session.dataset)
    with RunStore(
        folder,
        fingerprint,
        identity=replace(identity, parts={**identity.parts, DRAW: run.selection.draw}),
        questions=questions_of(session.dataset),
        overwrite=run.overwrite,
        timings=timings,
        asked=keys,
    ) as store:
        progress.warn(*store.notes, *([plan.chosen.note] if plan.chosen.note else []))
        earlier, start = store.earlier_summary, time.perf_counter()
        recording = session.toolbox.recording
        # Several runs of a command may share a recording and its counts.
        shared = None if recording is None else (recording.stats, recording.policy_stats)
        before = deepcopy(shared)
        progress.start(label, total=len(keys))
        kept, stopped = len(store.episodes), None
        spending = SpendingWatch(
            run.budget, map(progress.advance, store.episodes.values()), earlier
        )
        try:
            missing = Missing(spec, session, plan, store, identity)
            stopped = await _play_missing(missing, progress, spending, players or _players)
        finally:
            # In a benchmark every question has facts, so the first question decides.
            has_facts = bool(plan.tasks and plan.tasks[0].question.facts)
            facts = question_facts(plan.tasks) if has_facts else {}
            summary = _summary(name, session, plan, store, facts)
            if blind:
                summary["blind"] = [gap.record() for gap in blind]
            summary["spent"] = spending.record()
            summary["recording"] = _recording_record(session.config, recording, before)
            if stopped is not None:
                summary["stopped"] = stopped
            if kept:
                played = summary["n_finished"] - kept
                progress.note(f"{label}: {played:,} of {len(keys):,} played now, {kept:,} kept")
            earlier_s = float(earlier.get("wall_s") or 0.0)
            summary["wall_s"] = round(earlier_s + time.perf_counter() - start, 3)
            store.finish(summary, keys, facts)
    return summary


@dataclass(frozen=True)
class Missing:
    """The missing episodes of a run.

    Attributes:
        spec: The policy.
        session: The session to play in.
        plan: All requested episodes.
        store: The finished episodes.
        identity: Hashes of the run's material.
    """

    spec: Any
    session: Session
    plan: RunPlan
    store: RunStore
    identity: Identity


FindPlayers: TypeAlias = Callable[
    [Missing, Iterator[tuple[Task, int]], int, EpisodeProgress],
    AbstractAsyncContextManager[AsyncGenerator[Trajectory, None]],
]
"""Finds players for some jobs, given their number, and releases the players at the end."""


async def _play_missing(
    missing: Missing, progress: EpisodeProgress, spending: SpendingWatch, players: FindPlayers
) -> str | None:
    """Play the missing episodes. Returns why the run was stopped, or None."""
    session, plan, store = missing.session, missing.plan, missing.store
    run, name = session.run, policy_name(missing.spec)
    n_jobs = sum(key not in store.episodes for key in plan.keys)
    if not n_jobs:
        return None
    jobs = (job for job in plan.jobs() if _key(*job) not in store.episodes)
    progress.warn(*silent_endpoints(name, session.config))
    watch = FailureWatch(run.stop_after_failures, run.fail_above, len(plan.keys))
    async with players(missing, spending.admit(jobs), n_jobs, progress) as played:
        async for trajectory in played:
            store.add(trajectory)
            spending.see(trajectory)
            progress.advance(trajectory)
            if reason := watch.see(trajectory):
                return reason
    return spending.reason


@asynccontextmanager
async def _players(
    missing: Missing,
    jobs: Iterator[tuple[Task, int]],
    n_jobs: int,
    progress: EpisodeProgress,
) -> AsyncGenerator[AsyncGenerator[Trajectory, None]]:
    """The players: one engine in this process, or the workers of a cluster."""
    run = missing.session.run
    if run.ray is not None:
        from eval.cluster.players import RayPlayers  # Ray is an extra

        parts, start = dict(missing.identity.parts), time.perf_counter()
        with joined_cluster(run.ray) as n_workers:
            players = RayPlayers(
                missing.spec,
                missing.session,
                parts,
                min(n_workers, n_jobs),
                progress,
                joined_s=time.perf_counter() - start,
            )
            async with aclosing(players.play_all(jobs, n_jobs)) as played:
                yield played
        return
    engine = build_engine(missing.spec, missing.session, n_jobs)
    try:
        async with aclosing(engine.play_all(jobs)) as played:
            yield played
    finally:
        await engine.policy.aclose()


def build_engine(spec: Any, session: Session, n_jobs: int | None = None) -> RolloutEngine:
    """Build the engine that plays a session's episodes. The caller closes its policy.

    Args:
        spec: The policy.
        session: The session to play in.
        n_jobs: Number of episodes, if known.
    """
    run, name = session.run, policy_name(spec)
    policy = build_policy(spec, session.settings)
    return RolloutEngine(
        dataset=session.dataset,
        config=session.config,
        toolbox=session.toolbox,
        policy=recorded(policy, name, session.settings, session.toolbox.recording),
        policy_spec=name,
        seed=run.seed,
        concurrency=run.concurrency if n_jobs is None else min(run.concurrency, n_jobs),
        is_over=EpisodeLimit(run.episode_budget),
        episode_s=run.episode_budget.seconds,
    )


def _blind(session: Session, plan: RunPlan, begun: bool) -> list[Gap]:
    """The agents without input in some or all videos.

    Raises:
        BlindAgentError: An agent has no input in any video. Not raised with `--allow-blind` or if
            the run has already begun.
    """
    ids = dict.fromkeys(task.question.video_id for task in plan.tasks)
    gaps = find_gaps((session.dataset.videos[i] for i in ids), session.config)
    dataset = session.config.dataset
    # A variant removes an agent's input on purpose. Answers in time are also measured without any
    # text. Then the gaps are printed, and the run continues.
    wanted = isinstance(dataset, str) and dataset.startswith(PREFIX)
    wanted = wanted or session.config.ask == WHEN
    if not (begun or wanted or session.run.allow_blind):
        refuse_blind(gaps)
    return gaps


def _key(task: Task, sample: int) -> tuple[str, int]:
    return str(task.qid), sample


def _summary(
    name: str, session: Session, plan: RunPlan, store: RunStore, facts: Facts
) -> dict[str, Any]:
    gathered, named = Gathered(), NamedOptions(session.dataset.task)
    for key in plan.keys:
        if key in store.episodes:
            played = store.episodes[key]
            gathered.see(played)
            named.see(played)
    config = session.config
    return {
        "policy": name,
        "dataset": spec_of(config.dataset),
        "split": config.split,
        "grounding": config.grounding,
        "vision": config.vision,
        "oracle": config.grounding == "oracle",
        "leaky": config.unsafe_boxes,
        "n_samples": session.run.samples,
        "n_asked": len(plan.keys),
        "selection": dict(plan.selection),
        "shard": None if session.run.shard is None else str(session.run.shard),
        "n_skipped_rows": len(session.dataset.skipped),
        "coverage": session.dataset.coverage.as_json(),
        "named_options": named.record(),
        "groups": group_shares(facts, gathered.episodes),
        **summarize(gathered, len(plan.tasks)),
    }


def _recording_record(
    config: EnvConfig,
    recording: Recorder | None,
    before: tuple[RecordingStats, RecordingStats] | None,
) -> dict[str, Any]:
    """The recording's figures for this run only."""
    if recording is None or before is None:
        return {"mode": config.recording}
    tools, policy = recording.stats.since(before[0]), recording.policy_stats.since(before[1])
    own = {"policy": policy.record()} if policy.hit_rate is not None else {}
    return {"mode": config.recording, **tools.record(), **own}


def _fingerprint(policy: str, session: Session) -> dict[str, Any]:
    """The settings that resuming needs unchanged. Questions are left out: a run may grow."""
    generation = asdict(session.settings) if policy.startswith(("hf:", "vllm:", "openai:")) else {}
    for name in ("max_batch_size", "tensor_parallel_size", "gpu_memory_utilization"):
        generation.pop(name, None)  # changes the speed, not the episodes
    if not policy.startswith("vllm:"):
        generation.pop("max_model_len", None)
    environment = session.config.record()
    for name in ("recording", "recording_file"):
        del environment[name]  # they change where replies come from, not the requests
    unsafe = environment.pop("unsafe_boxes")
    marks = {"unsafe_boxes": True, "leaky": True} if unsafe else {}
    # Without a budget nothing is added, as in releases before budgets.
    limits = {f"episode_budget_{k}": v for k, v in session.run.episode_budget.record().items()}
    common = {"policy": policy, "seed": session.run.seed}
    return {**common, **environment, **marks, **generation, **limits}
