import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from io import StringIO

import pytest
from rich.console import Console

import longvideo_env as lv
from agents.generation.settings import GenerationSettings
from eval.cluster.players import SlotPlayers
from eval.cluster.scheduling import WorkerLostError
from eval.runs.progress import EpisodeProgress
from eval.runs.run_options import RunOptions
from eval.runs.session import build_engine, open_session, play_split
from longvideo_env import EnvConfig

POLICY = "scripted:ground-look-answer"
N = 500


class Place:
    """A slot in this process. Its first workers die while they play."""

    def __init__(self, session, node, losses):
        self.engine, self.node, self.losses = build_engine(POLICY, session), node, losses

    async def hire(self):
        return Player(self)


class Player:
    def __init__(self, place):
        self.place, self.held = place, []

    async def exchange(self, keys):
        self.held += keys
        await asyncio.sleep(0)
        if self.place.losses:
            self.place.losses -= 1
            raise WorkerLostError("drawn")
        now, self.held = self.held[:3], self.held[3:]
        engine = self.place.engine
        return [
            (key, (self.place.node, await engine.play(engine.dataset.task(key[0]), key[1])))
            for key in reversed(now)
        ]

    def dismiss(self):
        pass


@pytest.mark.slow
def test_a_run_in_slots_is_the_run_of_one_process(tmp_path):
    alone = lv.evaluate(POLICY, dataset="mini", split="val", out=tmp_path / "alone", progress=False)
    run = RunOptions([POLICY], tmp_path, 0, 2, False)
    session = open_session(run, EnvConfig(dataset="mini", split="val"), GenerationSettings())

    @asynccontextmanager
    async def players(missing, jobs, n_jobs, progress):
        slots = [Place(session, "n1", 0), Place(session, "n1", 1), Place(session, "n2", 2)]
        playing = SlotPlayers(missing.spec, missing.session, slots, progress)
        async with aclosing(playing.play_all(jobs, n_jobs)) as played:
            yield played
        assert playing.scheduler.n_lost == 3

    async def play():
        with EpisodeProgress(Console(file=StringIO())) as bar:
            folder = tmp_path / "slots"
            summary = await play_split(POLICY, session, folder, bar, POLICY, players=players)
            return summary, bar.notes, folder

    summary, notes, folder = asyncio.run(play())
    assert any("3 workers were lost" in note for note in notes)
    timed = {"wall_s", "model_s", "tools_s"}
    assert {k: v for k, v in summary.items() if k not in timed} == {
        k: v for k, v in alone.summary.items() if k not in timed
    }
    for name in ("config.json", "questions.json"):
        assert (folder / name).read_bytes() == (alone.folder / name).read_bytes()
    episodes = [t.to_json(timings=False) for t in lv.read_trajectories(folder / "episodes.jsonl")]
    assert episodes == [t.to_json(timings=False) for t in alone.episodes]
    assert len(episodes) == N
    assert json.loads((folder / "summary.json").read_text()) == summary
