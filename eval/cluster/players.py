"""Play a run's missing episodes on a Ray cluster, instead of with one engine.

Only the driver knows which worker plays which question. It gives finished episodes to the one
writer of the run's folder. `scheduling` handles the questions of lost workers.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Protocol
from uuid import uuid4

from agents.cluster.joining import RayOptions, load_ray
from agents.policies.build import policy_name
from agents.policies.scripted import RandomPolicy
from eval.cluster.episode_worker import EpisodeWorker, Key, Recipe
from eval.cluster.scheduling import LIVES, Scheduler, Slot, WorkerLostError, play_over
from eval.cluster.shared_recording import serve_recording
from eval.runs.progress import EpisodeProgress
from eval.runs.session import Session
from longvideo_env import RolloutEngine, Task
from longvideo_env.errors import PolicyError
from longvideo_env.records.trajectory import Trajectory

_DETAIL = re.compile(r"Worker exit detail: (.+)")
_PATIENCE_S = 30.0
_MOST_CALLS = 1000
_NAMED = 8
"""The most nodes that are named. Further nodes of a large cluster are only counted."""

_WAITS = "a worker waits for a node with room, or loads its model"


class PlaceWithNode(Slot[Key, tuple[str, Trajectory]], Protocol):
    """A slot that knows its worker's node. Results come with the node that played them.

    Attributes:
        node: The node. Empty while there is no worker.
    """

    node: str


class SlotPlayers:
    """Plays episodes in slots, and reports the number of episodes per node. It does not use Ray.

    Args:
        spec: The policy.
        session: The session that it plays in.
        slots: The places of workers.
        progress: Shows the work of each node.
        joined_s: Seconds that joining the cluster took.
    """

    def __init__(
        self,
        spec: Any,
        session: Session,
        slots: Sequence[PlaceWithNode],
        progress: EpisodeProgress,
        joined_s: float = 0.0,
    ) -> None:
        self._session, self._slots, self._progress = session, slots, progress
        self._played: Counter[str] = Counter()
        self._start, self._ready_s = time.perf_counter() - joined_s, 0.0
        # The driver plays nothing. It needs an engine to write an episode that cannot be played.
        self._engine = RolloutEngine(
            dataset=session.dataset,
            config=session.config,
            toolbox=session.toolbox,
            policy=RandomPolicy(),
            policy_spec=policy_name(spec),
            seed=session.run.seed,
        )

    async def play_all(
        self, jobs: Iterable[tuple[Task, int]], n_jobs: int
    ) -> AsyncGenerator[Trajectory, None]:
        """As `RolloutEngine.play_all`.

        Raises:
            PolicyError: Workers are lost before they can play.
            LongVideoEnvError: A worker failed.
        """
        keys = ((str(task.qid), sample) for task, sample in jobs)
        depth = 2 * self._session.run.concurrency
        self.scheduler: Scheduler[Key] = Scheduler(
            keys, n_jobs=n_jobs, n_slots=len(self._slots), depth=depth
        )
        try:
            async for batch in play_over(self.scheduler, self._slots, self._give_up):
                self._ready_s = self._ready_s or time.perf_counter() - self._start
                for place, trajectory in batch:
                    self._played[place] += 1
                    yield trajectory
                self._progress.place(self._where)
        except WorkerLostError as error:
            raise PolicyError(
                f"{LIVES} workers in a row were lost before they could play: {error}. Fix: read "
                "Ray's logs, and give a worker more memory (--ray-workers, --cpus-per-worker)."
            ) from error
        finally:
            lost = ""
            if self.scheduler.n_lost:
                lost = f"; {self.scheduler.n_lost:,} workers were lost; "
                lost += f"{self.scheduler.n_again:,} episodes were played again"
            self._progress.note(
                f"played on {self._where()}, ready after {self._ready_s:.1f} s{lost}"
            )

    async def _give_up(self, key: Key, reason: str) -> tuple[str, Trajectory]:
        qid, sample = key
        why = f"{LIVES} workers were lost while they played this question, the last one while it "
        why += f"played nothing else: {reason}"
        task = self._session.dataset.task(qid)
        return "the driver", await self._engine.give_up(task, sample, why)

    def _where(self) -> str:
        nodes = Counter(slot.node for slot in self._slots if slot.node)
        parts = [
            f"{node} ({n} {'worker' if n == 1 else 'workers'}) {self._played[node]:,}"
            for node, n in sorted(nodes.items())
        ]
        gone = [(node, n) for node, n in sorted(self._played.items()) if node not in nodes]
        said = [*parts, *(f"{node} (gone) {n:,}" for node, n in gone)]
        more = [f"{len(said) - _NAMED:,} more"] if len(said) > _NAMED else []
        return ", ".join([*said[:_NAMED], *more]) or "no node"


class RayPlayers(SlotPlayers):
    """Plays episodes on a cluster that this process has joined.

    Args:
        spec: The policy.
        session: The session that it plays in. The recording's counts are added to its own.
        identity: Hashes of the run's material.
        n_workers: Number of workers.
        progress: Shows the work of each node.
        joined_s: Seconds that joining the cluster took.
    """

    def __init__(
        self,
        spec: Any,
        session: Session,
        identity: dict[str, str],
        n_workers: int,
        progress: EpisodeProgress,
        joined_s: float = 0.0,
    ) -> None:
        self._ray = load_ray()
        config, run = session.config, session.run
        self._server = None
        if config.recording != "off" and config.recording_file is not None:
            path = os.path.abspath(config.recording_file)
            self._server = serve_recording(self._ray, path, config.recording)
        recipe = Recipe(spec, run, config, session.settings, os.getcwd(), identity)
        from ray import cloudpickle

        packed = self._ray.put(cloudpickle.dumps(recipe))
        assert run.ray is not None
        slots = [
            _Slot(self._ray, run.ray, packed, self._server, progress) for _ in range(n_workers)
        ]
        super().__init__(spec, session, slots, progress, joined_s)

    async def play_all(
        self, jobs: Iterable[tuple[Task, int]], n_jobs: int
    ) -> AsyncGenerator[Trajectory, None]:
        """As `SlotPlayers.play_all`."""
        try:
            async with aclosing(super().play_all(jobs, n_jobs)) as played:
                async for trajectory in played:
                    yield trajectory
            await self._count_calls()
        finally:
            if self._server is not None:
                self._ray.kill(self._server)

    async def _count_calls(self) -> None:
        recording = self._session.toolbox.recording
        if self._server is None or recording is None:
            return
        counted = await self._server.stats.remote()
        for mine, theirs in zip((recording.stats, recording.policy_stats), counted, strict=True):
            for name, n in vars(theirs).items():
                setattr(mine, name, getattr(mine, name) + n)


class _Slot:
    """A place for an actor. A lost actor is replaced by another, on any node with room."""

    def __init__(
        self, ray: Any, options: RayOptions, packed: Any, server: Any, progress: EpisodeProgress
    ) -> None:
        self._ray, self._packed, self._server, self._progress = ray, packed, server, progress
        self._options = {
            **options.resources,
            "max_restarts": 0,
            "max_concurrency": _MOST_CALLS,
            "scheduling_strategy": "SPREAD",
        }
        self.node = ""

    async def hire(self) -> _RayWorker:
        """Start a worker and wait until it has loaded everything."""
        self.node, name = "", uuid4().hex
        actor = self._ray.remote(EpisodeWorker).options(**self._options)
        worker = _RayWorker(self._ray, actor.remote(self._packed, self._server, name), self, name)
        try:
            starting = asyncio.ensure_future(worker.call("start"))
            while not (await asyncio.wait({starting}, timeout=_PATIENCE_S))[0]:
                self._progress.place(lambda: _WAITS)
            started = starting.result()
        except BaseException:
            worker.dismiss()
            raise
        if isinstance(started, Exception):
            worker.dismiss()
            raise started
        self.node = started
        return worker


class _RayWorker:
    def __init__(self, ray: Any, actor: Any, slot: _Slot, name: str) -> None:
        self._ray, self._actor, self._slot, self._name = ray, actor, slot, name

    async def exchange(self, jobs: Sequence[Key]) -> list[tuple[Key, tuple[str, Trajectory]]]:
        """See `scheduling.Worker`."""
        finished, fault = await self.call("exchange", jobs)
        if fault is not None and not finished:
            raise fault
        return [(key, (self._slot.node, trajectory)) for key, trajectory in finished]

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call the actor.

        Raises:
            WorkerLostError: The actor or its node is lost.
        """
        errors = self._ray.exceptions
        try:
            return await getattr(self._actor, method).remote(*arguments)
        except errors.RayTaskError as error:
            raise PolicyError(f"a worker failed: {error.cause!r:.300}") from error
        except errors.RayError as error:
            detail = _DETAIL.search(str(error))
            said = detail[1] if detail else str(error).strip().splitlines()[0]
            raise WorkerLostError(f"{self._slot.node or 'no node'}: {said:.200}") from error

    def dismiss(self) -> None:
        """End the process, with any episodes that it still plays."""
        with suppress(Exception):  # the cluster itself may be gone
            self._ray.kill(self._actor)
            if self._slot._server is not None:
                self._slot._server.forget.remote(self._name)
