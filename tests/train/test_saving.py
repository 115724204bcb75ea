import json
from pathlib import Path
from typing import Any

import pytest
import wandb

from longvideo_env.records.trajectory import (
    Segment,
    Timings,
    Trajectory,
    read_lines,
    read_trajectories,
)
from train.rollouts.saving import Rollout, RolloutStore
from train.rollouts.stopwatch import Stopwatch
from train.rollouts.trajectory_table import COLUMNS, TrajectoryTable


def trajectory(qid: int, status: Any = "answered") -> Trajectory:
    segments = (
        Segment("prompt", "Ω", token_ids=(1, 2)),
        Segment("assistant", "so", sampled=True, turn=1, token_ids=(3,), logprobs=(-0.5,)),
    )
    timings = Timings(model_s=1.0, tools_s=2.0)
    return Trajectory(qid, "v", "p", 0, 0, status, 2, (), segments, timings=timings)


def test_what_was_used_is_told_apart_from_what_was_generated(tmp_path: Path) -> None:
    rollouts = [
        Rollout(trajectory(1), 0),
        Rollout(trajectory(2, "failed"), 1),
        Rollout(trajectory(3), 0, refilled=True),
    ]
    RolloutStore(tmp_path).add(rollouts, step=12, rank=3)
    path = tmp_path / "step-000012-rank-003.jsonl.zst"
    assert list(read_trajectories(path)) == [one.trajectory for one in rollouts]
    notes = [json.loads(line)["rollout"] for line in read_lines(path)]
    place = {"step": 12, "rank": 3}
    assert notes == [
        {**place, "row": 0, "used": True},
        {**place, "row": 1, "used": False, "unused": "failed"},
        {**place, "row": 0, "used": False, "unused": "refilled"},
    ]


def test_a_step_may_be_added_to_and_is_begun_anew_by_another_run(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path)
    for qid in (1, 2):
        store.add([Rollout(trajectory(qid), 0)], step=0, rank=0)
    path = tmp_path / "step-000000-rank-000.jsonl.zst"
    assert [t.qid for t in read_trajectories(path)] == [1, 2]
    RolloutStore(tmp_path).add([Rollout(trajectory(3), 0)], step=0, rank=0)
    assert [t.qid for t in read_trajectories(path)] == [3]


def test_the_stopwatch_tells_rollouts_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 30.0])
    monkeypatch.setattr("train.rollouts.stopwatch.time.perf_counter", lambda: next(now))
    watch = Stopwatch()
    first = watch.lap(6.0, 1.5, [trajectory(1), trajectory(2)])
    assert first == {
        "time/rollouts_s": 4.0,
        "time/model_s": 1.5,
        "time/tools_s": 2.0,
        "time/sync_s": 0.0,
        "time/tokens_per_s": 0.5,
    }
    watch.sync_s += 3.0
    second = watch.lap(20.0, 1.0, [])
    assert (second["time/train_s"], second["time/sync_s"]) == (7.0, 3.0)


class FakeRun:
    def __init__(self) -> None:
        self.logged: list[Any] = []

    def log(self, record: dict[str, Any], commit: bool) -> None:
        self.logged.append((record["trajectories"], commit))


def test_a_few_whole_trajectories_are_shown_every_so_many_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = FakeRun()
    monkeypatch.setattr(wandb, "run", run)
    table = TrajectoryTable(every=10, count=2)
    for step in range(1, 22):
        table.show([trajectory(i) for i in range(5)], step)
    assert len(run.logged) == 3
    shown, commit = run.logged[1]
    assert not commit, "the trainer's own record ends the step"
    assert tuple(shown.columns) == COLUMNS
    assert [row[:4] + row[-1:] for row in shown.data] == [
        [11, "0", 0, "answered", "Ωso"],
        [11, "1", 0, "answered", "Ωso"],
    ]
    monkeypatch.setattr(wandb, "run", None)
    table.show([trajectory(1)], 1)
    assert len(run.logged) == 3
