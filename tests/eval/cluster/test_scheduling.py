import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.cluster.scheduling import LIVES, Scheduler, WorkerLostError, play_over


def scheduler(n, slots=2, depth=4):
    return Scheduler(iter(range(n)), n_jobs=n, n_slots=slots, depth=depth)


def test_jobs_are_read_no_further_than_asked_for_and_fewer_at_the_end():
    jobs = iter(range(100))
    s = Scheduler(jobs, n_jobs=100, n_slots=2, depth=40)
    assert s.take(0) == list(range(25))
    assert next(jobs) == 25
    assert len(s.take(1)) == 19
    assert not s.over


def test_a_job_is_done_by_who_holds_it_alone():
    s = scheduler(4)
    (mine,), (theirs,) = s.take(0), s.take(1)
    assert not s.done(1, mine)
    assert s.lost(0) == []
    assert not s.done(0, mine), "a late result of a lost worker does not count"
    assert s.done(1, theirs)


def test_suspects_play_alone_and_are_given_up_in_the_end():
    s = scheduler(8, slots=1, depth=8)
    first = s.take(0)
    assert s.lost(0) == []
    assert s.take(0)[: len(first)] == first
    assert s.lost(0) == []
    alone = s.take(0)
    assert len(alone) == 1
    assert s.take(0) == []
    assert s.lost(0) == alone
    assert s.n_lost == LIVES


class Place:
    """A slot whose workers die on some jobs, and sometimes at random."""

    def __init__(self, deadly, draw, starts=()):
        self.deadly, self.draw, self.starts = deadly, draw, list(starts)
        self.played = []

    async def hire(self):
        await asyncio.sleep(0)
        if self.starts and not self.starts.pop(0):
            raise WorkerLostError("at the start")
        return Player(self)


class Player:
    def __init__(self, place):
        self.place, self.jobs, self.gone = place, [], False

    async def exchange(self, jobs):
        assert not self.gone
        self.jobs += jobs
        await asyncio.sleep(0)
        if self.place.deadly & set(self.jobs):
            self.gone = True
            raise WorkerLostError("killed")
        n = self.place.draw(len(self.jobs))
        finished, self.jobs = self.jobs[:n], self.jobs[n:]
        self.place.played += finished
        return [(job, ("played", job)) for job in finished]

    def dismiss(self):
        self.gone = True


async def lost(job, reason):
    await asyncio.sleep(0)
    return "given up", job


def play(n, slots, depth):
    async def whole():
        s = Scheduler(iter(range(n)), n_jobs=n, n_slots=len(slots), depth=depth)
        return [r async for batch in play_over(s, slots, lost) for r in batch]

    return asyncio.run(asyncio.wait_for(whole(), 20))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_job_once_whatever_dies(data):
    n = data.draw(st.integers(0, 60))
    deadly = data.draw(st.sets(st.integers(0, 59), max_size=4))
    depth = data.draw(st.integers(1, 12))
    draw = lambda most: data.draw(st.integers(1, max(1, most)))  # noqa: E731
    slots = [Place(deadly, draw) for _ in range(data.draw(st.integers(1, 4)))]
    results = play(n, slots, depth)
    assert sorted(job for _, job in results) == list(range(n))
    assert {job for how, job in results if how == "given up"} == deadly & set(range(n))


def test_a_worker_lost_at_its_start_is_replaced_but_not_for_ever():
    assert len(play(5, [Place(set(), lambda n: n, [False, False, True])], 3)) == 5
    with pytest.raises(WorkerLostError, match="at the start"):
        play(5, [Place(set(), lambda n: n, [False] * LIVES)], 3)


def test_a_worker_hands_over_each_episode_once_although_they_wait(tmp_path):
    from agents.generation.settings import GenerationSettings
    from eval.cluster.episode_worker import EpisodeWorker
    from eval.runs.run_options import RunOptions
    from eval.runs.session import build_engine, open_session
    from longvideo_env import EnvConfig

    async def slow(messages):
        await asyncio.sleep(len(messages[0]["content"]) % 7 / 100)
        return "<answer>a0</answer>"

    run = RunOptions([slow], tmp_path, 0, 4, False)
    session = open_session(run, EnvConfig(dataset="mini", split="val"), GenerationSettings())
    keys = [(str(task.qid), 0) for task in session.dataset.tasks[:40]]

    async def whole():
        worker = EpisodeWorker(b"", None, "worker")
        worker._engine, worker._places = build_engine(slow, session), asyncio.Semaphore(4)
        found, left = [], list(keys)
        while len(found) < len(keys):
            batch, left = left[:15], left[15:]
            finished, fault = await asyncio.wait_for(worker.exchange(batch), 20)
            assert fault is None
            found += [key for key, _ in finished]
        return found

    assert sorted(asyncio.run(whole())) == sorted(keys)
