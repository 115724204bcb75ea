"""A million questions on 1,000 workers, simulated: efficiency, the driver's memory and its rate.

    python benchmarks/scale.py
    python benchmarks/scale.py --questions 100000 --workers 200 --lost-every-h 100

What is real: the scheduler (`eval/cluster/scheduling.py`) and the writer of the run's folder
(`RunStore`, with lines of a real episode), in one process, as in a driver. A run also keeps all
episodes in memory for its summary: `--keep` does that, too.
What is drawn: how long an episode takes (log-normal, with the mean and spread given, those of an
episode of three calls at 2 s each by default) and when workers are lost (exponential). Time is
virtual: the event loop jumps to the next moment at which something happens, so that an hour takes
as long as the driver's own work in it.

Efficiency is the ideal time (all episodes' seconds over all places) over the simulated one. The
driver's own CPU seconds are not part of it: they are printed beside it, with the rate at which one
driver can take episodes at most. If the run's own rate is above that, the driver breaks first.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import selectors
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from pathlib import Path

import numpy as np

from eval.cluster.scheduling import Scheduler, WorkerLostError, play_over
from eval.runs.store import RunStore
from longvideo_env.records.trajectory import Trajectory

RESTART_S = 60.0
"""From the loss of a worker to the next one that is ready: a model is loaded."""
ROUND_TRIP_S = 0.005


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time go by."""
        self._now += seconds


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self._loop.jump(timeout)
        return []


class Place:
    """A slot whose workers play by the clock.

    Args:
        options: The command line.
        seed: Of its draws.
        seconds: Counts all episodes' seconds.
    """

    def __init__(self, options: argparse.Namespace, seed: int, seconds: list[float]) -> None:
        self.options, self.seconds = options, seconds
        self.rng = np.random.default_rng(seed)
        spread = options.spread
        self.mu = np.log(options.episode_s) - spread**2 / 2

    async def hire(self) -> _Simulated:
        """A worker, once its model is loaded."""
        await asyncio.sleep(RESTART_S * self.rng.uniform(0.5, 1.5))
        return _Simulated(self)


class _Simulated:
    def __init__(self, place: Place) -> None:
        self.place, self.loop = place, asyncio.get_running_loop()
        self.dies_s = self.loop.time() + place.rng.exponential(place.options.lost_every_h * 3600)
        self.ends: list[tuple[float, tuple[str, int]]] = []  # those that play
        self.waiting: list[tuple[str, int]] = []

    async def exchange(
        self, jobs: Sequence[tuple[str, int]]
    ) -> list[tuple[tuple[str, int], tuple[str, int]]]:
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
            finished.append((job, job))
            self._start(end)
        return finished

    def _start(self, now: float) -> None:
        while self.waiting and len(self.ends) < self.place.options.in_flight:
            job = self.waiting.pop(0)
            took = float(self.place.rng.lognormal(self.place.mu, self.place.options.spread))
            self.place.seconds[0] += took
            heappush(self.ends, (now + took, job))

    def dismiss(self) -> None:
        pass


async def run(
    options: argparse.Namespace, store: RunStore, template: Trajectory
) -> dict[str, float]:
    """Play it through. Returns the figures."""
    n, seconds = options.questions, [0.0]
    text = template.to_json()
    keys: Iterator[tuple[str, int]] = ((str(i), 0) for i in range(n))
    scheduler = Scheduler(keys, n_jobs=n, n_slots=options.workers, depth=2 * options.in_flight)
    slots = [Place(options, seed, seconds) for seed in range(options.workers)]
    lines = 0

    async def give_up(job: tuple[str, int], reason: str) -> tuple[str, int]:
        return job

    async for batch in play_over(scheduler, slots, give_up):
        for qid, sample in batch:
            episode = Trajectory.from_json(text) if options.keep else template
            store.add(replace(episode, qid=int(qid), sample=sample))
            if not options.keep:
                store.episodes.clear()
            lines += 1
    assert lines == n, (lines, n)
    whole = asyncio.get_running_loop().time()
    ideal = seconds[0] / (options.workers * options.in_flight)
    return {
        "whole_s": whole,
        "ideal_s": ideal,
        "lost": scheduler.n_lost,
        "again": scheduler.n_again,
    }


def real_episode() -> Trajectory:
    """An episode of `mini`, as the offline agents play it."""
    import longvideo_env as lv

    result = lv.evaluate("scripted:ground-look-answer", dataset="mini", limit=1, progress=False)
    return result.episodes[0]  # type: ignore[attr-defined, no-any-return]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--questions", type=int, default=1_000_000)
    add("--workers", type=int, default=1_000)
    add("--in-flight", type=int, default=8, help="episodes in flight on a worker (%(default)s)")
    add("--episode-s", type=float, default=6.0, help="mean seconds of an episode (%(default)s)")
    add("--spread", type=float, default=0.8, help="sigma of the log-normal (%(default)s)")
    add("--lost-every-h", type=float, default=24.0, help="hours until a worker is lost, on average")
    add("--keep", action="store_true", help="keep all episodes in memory, as a run does for its "
        "summary, and put them in order at the end")  # fmt: skip
    options = parser.parse_args()
    template = real_episode()
    folder = Path(tempfile.mkdtemp(prefix="longvideo-scale-"))
    loop = VirtualLoop()
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        with RunStore(folder, {"policy": "simulated"}, timings=False) as store:
            figures = loop.run_until_complete(run(options, store, template))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            n_bytes = (folder / "episodes.jsonl").stat().st_size
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            start = time.perf_counter()
            if options.keep:
                store.finish({}, ((str(i), 0) for i in range(options.questions)))
            finish = time.perf_counter() - start
    finally:
        loop.close()
        shutil.rmtree(folder)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    n, whole = options.questions, figures["whole_s"]
    print(f"questions {n:,}, workers {options.workers:,} x {options.in_flight} in flight")
    print(f"simulated {whole:,.0f} s, ideal {figures['ideal_s']:,.0f} s: "
          f"efficiency {figures['ideal_s'] / whole:.3f}")  # fmt: skip
    print(f"workers lost {figures['lost']:,}, episodes played again {figures['again']:,}")
    print(f"the run's rate {n / whole:,.0f} episodes/s; driver at most {n / cpu:,.0f} a CPU second "
          f"({cpu:,.0f} CPU s, {wall:,.0f} s by the clock)")  # fmt: skip
    kept = f", {after:,.0f} MiB after putting them in order in {finish:,.0f} s" * options.keep
    print(f"driver's memory {peak:,.0f} MiB{' with all episodes kept' * options.keep}{kept}")
    print(f"written {n_bytes / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
