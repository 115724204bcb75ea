"""Simulate a million questions on 1,000 workers: efficiency, the driver's memory and its rate.

    python benchmarks/scale.py
    python benchmarks/scale.py --questions 100000 --workers 200 --lost-every-h 100
    python benchmarks/scale.py --latencies runs/eval/hf-model     # the latencies of your own run

Real is the whole driver of a run, in one process: from the choice of the questions to
`summary.json`, with `play_split`, the scheduler, the run's folder, budgets, bar and figures.

Random are the seconds of an episode (from the episodes of a recorded run) and the losses of workers
(exponential). Workers return copies of some real episodes of `mini`. Their questions are repeated
under new ids. Time is virtual: the event loop jumps to the next event, so an hour takes only as
long as the driver's own work in it. Ray is not simulated. `scale_ray.py` measures it.

Efficiency is the ideal time (the seconds of all episodes divided by the number of places) divided
by the simulated time. It does not include the driver's own CPU seconds. These are printed
separately, with the highest rate of episodes that one driver can take. If the run's rate is higher,
the driver is the bottleneck.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import selectors
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from heapq import heappop, heappush
from io import StringIO
from pathlib import Path
from typing import Any, overload

import numpy as np
from rich.console import Console

import longvideo_env as lv
from agents.generation.settings import GenerationSettings
from eval.cluster.players import SlotPlayers
from eval.cluster.scheduling import WorkerLostError
from eval.runs.progress import EpisodeProgress
from eval.runs.run_options import RunOptions
from eval.runs.session import Missing, open_session, play_split
from longvideo_env import EnvConfig, Task, read_trajectories
from longvideo_env.records.trajectory import Trajectory

RESTART_S = 60.0
"""Mean seconds from the loss of a worker until the next is ready, with its model loaded."""
ROUND_TRIP_S = 0.005
ON_A_NODE = 8
POLICY = "scripted:ground-look-answer"
MEASURED = Path(__file__).with_name("latencies.json")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Move the clock forward."""
        self._now += seconds


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self._loop.jump(timeout)
        return []


class ManyTasks(Sequence[Task]):
    """Repeated questions, each with a new id.

    Args:
        tasks: The questions.
        n: The number of questions with repeats.
    """

    def __init__(self, tasks: Sequence[Task], n: int) -> None:
        self._tasks, self._n = tasks, n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, at: int) -> Task: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Task]: ...
    def __getitem__(self, at: int | slice) -> Task | Sequence[Task]:
        if isinstance(at, slice):
            return [self[i] for i in range(self._n)[at]]
        if not -self._n <= at < self._n:
            raise IndexError(at)
        task = self._tasks[at % len(self._tasks)]
        return replace(task, question=replace(task.question, qid=at % self._n))


class Simulation:
    """The simulated workers.

    Args:
        options: The command line.
        latencies: Seconds of episodes, to draw from.
        lines: Real episodes as JSON. Question i gets episode i modulo their number.
    """

    def __init__(
        self, options: argparse.Namespace, latencies: Sequence[float], lines: Sequence[str]
    ) -> None:
        self.options, self.latencies, self.lines = options, np.asarray(latencies), lines
        self.seconds = self.whole_s = 0.0
        self.n_lost = self.n_again = 0

    @asynccontextmanager
    async def players(
        self,
        missing: Missing,
        jobs: Iterator[tuple[Task, int]],
        n_jobs: int,
        progress: EpisodeProgress,
    ) -> AsyncGenerator[AsyncGenerator[Trajectory, None]]:
        """Players that replace a cluster."""
        slots = [Place(self, i) for i in range(self.options.workers)]
        players = SlotPlayers(missing.spec, missing.session, slots, progress)
        async with aclosing(players.play_all(jobs, n_jobs)) as played:
            yield played
        self.whole_s = asyncio.get_running_loop().time()
        self.n_lost, self.n_again = players.scheduler.n_lost, players.scheduler.n_again

    def episode(self, job: tuple[str, int]) -> Trajectory:
        """The episode that a worker returns."""
        qid, sample = int(job[0]), job[1]
        played = Trajectory.from_json(self.lines[qid % len(self.lines)])
        return replace(played, qid=qid, sample=sample)


class Place:
    """A slot with simulated workers."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.simulation, self.rng = simulation, np.random.default_rng(number)
        self.node = f"node-{number // ON_A_NODE:04d}"

    async def hire(self) -> _Simulated:
        """A worker, once its model is loaded."""
        await asyncio.sleep(RESTART_S * self.rng.uniform(0.5, 1.5))
        return _Simulated(self)


class _Simulated:
    def __init__(self, place: Place) -> None:
        self.place, self.loop = place, asyncio.get_running_loop()
        options = place.simulation.options
        self.in_flight = options.in_flight
        self.dies_s = self.loop.time() + place.rng.exponential(options.lost_every_h * 3600)
        self.ends: list[tuple[float, tuple[str, int]]] = []  # end times of jobs that play
        self.waiting: list[tuple[str, int]] = []

    async def exchange(
        self, jobs: Sequence[tuple[str, int]]
    ) -> list[tuple[tuple[str, int], tuple[str, Trajectory]]]:
        self.waiting += jobs
        self._start(self.loop.time())
        until = max(self.loop.time(), self.ends[0][0]) + ROUND_TRIP_S
        if until > self.dies_s:
            await asyncio.sleep(max(0.0, self.dies_s - self.loop.time()))
            raise WorkerLostError("drawn")
        await asyncio.sleep(until - self.loop.time())
        finished = []
        while self.ends and self.ends[0][0] <= self.loop.time():
            end, job = heappop(self.ends)
            finished.append((job, (self.place.node, self.place.simulation.episode(job))))
            self._start(end)
        return finished

    def _start(self, now: float) -> None:
        simulation = self.place.simulation
        while self.waiting and len(self.ends) < self.in_flight:
            job = self.waiting.pop(0)
            took = float(self.place.rng.choice(simulation.latencies))
            simulation.seconds += took
            heappush(self.ends, (now + took, job))

    def dismiss(self) -> None:
        pass


def latencies_of(path: Path) -> tuple[list[float], str]:
    """The seconds of a run's episodes (model and tools), and where they were measured."""
    if path.suffix == ".json":
        record = json.loads(path.read_text(encoding="utf-8"))
        return record["seconds"], record["measured"]
    played = read_trajectories(path / "episodes.jsonl" if path.is_dir() else path)
    seconds = [t.timings.model_s + t.timings.tools_s for t in played if t.status != "failed"]
    return [round(s, 3) for s in seconds], str(path)


def real_episodes(config: EnvConfig) -> list[str]:
    """Episodes of all questions of `mini`, played with the offline agents."""
    with tempfile.TemporaryDirectory() as name:
        result = lv.evaluate(
            POLICY, dataset=config.dataset, split=config.split, out=name, progress=False
        )
        return (result.folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()


def run(options: argparse.Namespace, folder: Path, simulation: Simulation) -> dict[str, Any]:
    """Play the whole run. Returns its summary."""
    config = EnvConfig(dataset="mini", split="val")
    simulation.lines = real_episodes(config)
    policies = RunOptions([POLICY], folder, 0, options.in_flight, False)
    session = open_session(policies, config, GenerationSettings())
    tasks = ManyTasks(session.dataset.tasks, options.questions)
    session = replace(session, dataset=replace(session.dataset, tasks=tasks))

    async def play() -> dict[str, Any]:
        with EpisodeProgress(Console(file=StringIO())) as progress:
            return await play_split(
                POLICY, session, folder, progress, POLICY, players=simulation.players
            )

    loop = VirtualLoop()
    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--questions", type=int, default=1_000_000)
    add("--workers", type=int, default=1_000)
    add("--in-flight", type=int, default=8, help="episodes in flight on a worker (%(default)s)")
    add("--latencies", type=Path, default=MEASURED, metavar="RUN", help="a run's folder, to draw "
        "seconds of episodes from (default: benchmarks/latencies.json)")  # fmt: skip
    add("--mean-s", type=float, metavar="S", help="stretch the seconds to this mean, as for a "
        "faster model (default: as measured)")  # fmt: skip
    add("--lost-every-h", type=float, default=24.0, help="mean hours until a worker is lost")
    options = parser.parse_args()
    latencies, measured = latencies_of(options.latencies)
    if options.mean_s:
        stretch = options.mean_s / float(np.mean(latencies))
        latencies = [s * stretch for s in latencies]
        measured += f"; stretched by {stretch:.3g}"
    simulation = Simulation(options, latencies, [])
    with tempfile.TemporaryDirectory(prefix="longvideo-scale-") as name:
        cpu, wall = time.process_time(), time.perf_counter()
        folder = Path(name, "run")
        summary = run(options, folder, simulation)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        n_bytes = (folder / "episodes.jsonl").stat().st_size
        with open(folder / "episodes.jsonl", "rb") as file:
            n_lines = sum(1 for _ in file)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    n, whole = options.questions, simulation.whole_s
    assert summary["n_finished"] == n_lines == n, (summary["n_finished"], n_lines)
    ideal = simulation.seconds / (options.workers * options.in_flight)
    print(f"questions {n:,}, workers {options.workers:,} x {options.in_flight} in flight")
    print(
        f"latencies: {len(latencies):,} episodes, mean {np.mean(latencies):.2f} s, median "
        f"{np.median(latencies):.2f} s, longest {max(latencies):.2f} s; {measured}"
    )
    print(f"simulated {whole:,.0f} s, ideal {ideal:,.0f} s: efficiency {ideal / whole:.3f}")
    print(f"workers lost {simulation.n_lost:,}, episodes played again {simulation.n_again:,}")
    print(f"the run's rate {n / whole:,.0f} episodes/s; driver at most {n / cpu:,.0f} per CPU s "
          f"({cpu:,.0f} CPU s, {wall:,.0f} s by the clock)")  # fmt: skip
    print(f"accuracy {summary['accuracy']:.4f}, figures of {summary['n_finished']:,} episodes")
    print(f"driver's memory {peak:,.0f} MiB at its peak; written {n_bytes / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
