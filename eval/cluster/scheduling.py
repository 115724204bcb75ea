"""A queue of jobs for workers that may be lost.

    scheduler = Scheduler(jobs, n_jobs=1000, n_slots=len(slots), depth=128)
    async for result in play_over(scheduler, slots): ...

This module does not use Ray. A slot is a place for a worker. It hires a worker, and a new one if
that is lost. The unfinished jobs of a lost worker are played again. After two lost workers a job is
played alone, and after a third it is given up. So a job that kills its worker costs three workers,
and the jobs beside it are not given up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

LIVES = 3
"""Number of lost workers after which a job is given up."""

JobT = TypeVar("JobT", bound=Hashable)
ResultT = TypeVar("ResultT", covariant=True)
R = TypeVar("R")


class WorkerLostError(Exception):
    """A worker is lost, with the results that it had not returned."""


class Worker(Protocol[JobT, ResultT]):
    """Plays jobs."""

    async def exchange(self, jobs: Sequence[JobT], /) -> Sequence[tuple[JobT, ResultT]]:
        """Give further jobs to the worker, and wait for results of these and earlier jobs.

        Raises:
            WorkerLostError: The worker is lost.
        """
        ...

    def dismiss(self) -> None:
        """End the worker."""
        ...


class Slot(Protocol[JobT, ResultT]):
    """A place for a worker."""

    async def hire(self) -> Worker[JobT, ResultT]:
        """A worker that is ready.

        Raises:
            WorkerLostError: The worker was lost before it was ready.
        """
        ...


class Scheduler(Generic[JobT]):
    """The waiting jobs, and the jobs that each slot holds.

    Args:
        jobs: The jobs, read only as workers need them.
        n_jobs: The most jobs that there are.
        n_slots: Number of slots.
        depth: The most jobs that a slot holds.

    Attributes:
        n_lost: Number of workers lost while they held jobs.
        n_again: Number of jobs that were given out again.
    """

    def __init__(self, jobs: Iterator[JobT], *, n_jobs: int, n_slots: int, depth: int) -> None:
        self._jobs: Iterator[JobT] | None = jobs
        self._left, self._n_slots, self._depth = n_jobs, n_slots, depth
        self._again: deque[JobT] = deque()
        self._alone: deque[JobT] = deque()
        self._losses: dict[JobT, int] = {}
        self._held: dict[int, dict[JobT, None]] = {}
        self.n_lost = self.n_again = 0

    def take(self, slot: int) -> list[JobT]:
        """Further jobs for a slot. Empty if it holds enough, or if no jobs are left."""
        held = self._held.setdefault(slot, {})
        if not held and self._alone:
            job = self._alone.popleft()
            held[job] = None
            return [job]
        if len(held) == 1 and self._losses.get(next(iter(held)), 0) >= LIVES - 1:
            return []  # it plays alone
        taken: list[JobT] = []
        more: JobT | None
        # Fewer and fewer jobs, so that all slots end at about the same time (guided
        # self-scheduling, Polychronopoulos and Kuck 1987).
        most = max(1, -(-self._left // (2 * self._n_slots)))
        while len(held) < self._depth and len(taken) < most:
            more = self._next()
            if more is None:
                break
            held[more] = None
            taken.append(more)
        return taken

    def done(self, slot: int, job: JobT) -> bool:
        """Note that a slot has finished a job. False if the slot does not hold it."""
        if job not in self._held.get(slot, {}):
            return False
        del self._held[slot][job]
        self._losses.pop(job, None)
        return True

    def lost(self, slot: int) -> list[JobT]:
        """Take back the jobs of a slot. Returns the jobs that are given up."""
        given_up = []
        held = self._held.pop(slot, {})
        self.n_lost += bool(held)
        for job in held:
            losses = self._losses[job] = self._losses.get(job, 0) + 1
            if losses >= LIVES:
                given_up.append(job)
                continue
            self.n_again += 1
            self._left += 1
            (self._alone if losses == LIVES - 1 else self._again).append(job)
        return given_up

    def holds(self, slot: int) -> int:
        """Number of jobs that a slot holds."""
        return len(self._held.get(slot, ()))

    @property
    def over(self) -> bool:
        """Whether all jobs are done."""
        waiting = self._jobs is not None or self._again or self._alone
        return not waiting and not any(self._held.values())

    def _next(self) -> JobT | None:
        if self._again:
            self._left -= 1
            return self._again.popleft()
        job = None if self._jobs is None else next(self._jobs, None)
        if job is None:
            self._jobs = None
        self._left = max(0, self._left - 1)
        return job


async def play_over(
    scheduler: Scheduler[JobT],
    slots: Sequence[Slot[JobT, R]],
    give_up: Callable[[JobT, str], Awaitable[R]],
) -> AsyncGenerator[list[R], None]:
    """Play all jobs, and yield results as workers return them.

    A slow consumer of the results slows the workers down.

    Args:
        scheduler: The jobs.
        slots: The places of workers.
        give_up: Makes the result of a job that is given up, from the job and the reason of the last
            loss.

    Raises:
        WorkerLostError: `LIVES` workers of a slot in a row were lost before they were ready.
    """
    floor = _Floor(scheduler, give_up, room=2 * len(slots))
    tasks = [asyncio.ensure_future(floor.work(i, slot)) for i, slot in enumerate(slots)]
    for task in tasks:
        task.add_done_callback(floor.results.put_nowait)  # also after an error
    try:
        # A slot may still wait for a worker that is no longer needed.
        while not floor.over:
            item = await floor.results.get()
            if isinstance(item, asyncio.Task):
                item.result()
                continue
            if item:
                yield item
            floor.room.release()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Floor(Generic[JobT, R]):
    """The shared state of the slots. `results` holds their results, and tasks that ended."""

    def __init__(
        self, scheduler: Scheduler[JobT], give_up: Callable[[JobT, str], Awaitable[R]], room: int
    ) -> None:
        self.results: asyncio.Queue[list[R] | asyncio.Task[None]] = asyncio.Queue()
        self.room = asyncio.Semaphore(room)
        self._scheduler, self._give_up = scheduler, give_up
        self._given_back = asyncio.Event()
        self._unsaid = 0

    @property
    def over(self) -> bool:
        """Whether all jobs are done and all results are taken."""
        return self._scheduler.over and self.results.empty() and not self._unsaid

    async def work(self, place: int, slot: Slot[JobT, R]) -> None:
        """Work in a slot until all jobs are done."""
        worker = await _hire(slot)
        try:
            while not self._scheduler.over:
                jobs = self._scheduler.take(place)
                if self._scheduler.holds(place):
                    await self.room.acquire()
                    try:
                        finished = await worker.exchange(jobs)
                    except WorkerLostError as error:
                        await self._lost(place, str(error))
                        worker.dismiss()
                        worker = await _hire(slot)
                    else:
                        # Marked as done and queued without a pause, so `over` misses no result.
                        done = self._scheduler.done
                        self.results.put_nowait([r for job, r in finished if done(place, job)])
                elif not self._scheduler.over:
                    await self._given_back.wait()
        finally:
            self._wake()
            worker.dismiss()

    async def _lost(self, place: int, reason: str) -> None:
        self._unsaid += 1
        given_up = self._scheduler.lost(place)
        self._wake()
        self.results.put_nowait([await self._give_up(job, reason) for job in given_up])
        self._unsaid -= 1

    def _wake(self) -> None:
        """Let slots without work check for jobs again."""
        self._given_back.set()
        self._given_back.clear()


async def _hire(slot: Slot[JobT, R]) -> Worker[JobT, R]:
    for _ in range(LIVES - 1):
        with suppress(WorkerLostError):
            return await slot.hire()
    return await slot.hire()
