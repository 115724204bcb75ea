import json

import pytest

from eval.runs.naming import run_folder
from eval.runs.store import RunStore
from longvideo_env.errors import SpecError, TrajectoryError
from longvideo_env.records.trajectory import Trajectory, read_trajectories

CONFIG = {"policy": "p", "seed": 0}


def episode(qid, status="answered"):
    return Trajectory(qid, "v", "p", 0, 0, status, 5, (), ())


def filled(folder, *episodes):
    with RunStore(folder, CONFIG) as store:
        for item in episodes:
            store.add(item)
    return store


def qids(folder):
    return [t.qid for t in read_trajectories(folder / "episodes.jsonl")]


def test_episodes_are_on_disk_as_they_are_added(tmp_path):
    filled(tmp_path, episode(1), episode(2))
    assert qids(tmp_path) == [1, 2]


def test_resume_keeps_finished_and_drops_failed_and_torn(tmp_path):
    filled(tmp_path, episode(1), episode(2, "failed"), episode(3))
    with open(tmp_path / "episodes.jsonl", "a", encoding="utf-8") as file:
        file.write(episode(4).to_json()[:50])
    with RunStore(tmp_path, CONFIG) as store:
        assert sorted(store.episodes) == [("1", 0), ("3", 0)]
        store.add(episode(5))
    assert qids(tmp_path) == [1, 3, 5]


def test_a_broken_line_in_the_middle_is_not_thrown_away(tmp_path):
    filled(tmp_path, episode(1))
    path = tmp_path / "episodes.jsonl"
    path.write_text("garbage\n" + path.read_text())
    with pytest.raises(TrajectoryError, match="line 1"):
        RunStore(tmp_path, CONFIG)
    assert "garbage" in path.read_text()


def test_finish_orders_and_sums_up(tmp_path):
    store = filled(tmp_path, episode(3), episode("x"), episode(1))
    store.finish({"wall_s": 2.5}, [("1", 0), ("x", 0), ("3", 0)])
    assert qids(tmp_path) == [1, "x", 3]
    assert json.loads((tmp_path / "summary.json").read_text()) == {"wall_s": 2.5}
    with RunStore(tmp_path, CONFIG) as again:
        assert again.earlier_wall_s == 2.5


def test_another_configuration_is_refused(tmp_path):
    filled(tmp_path, episode(1))
    with pytest.raises(SpecError, match="seed=0, not 1"):
        RunStore(tmp_path, CONFIG | {"seed": 1})
    assert qids(tmp_path) == [1]
    with RunStore(tmp_path, CONFIG | {"seed": 1}, overwrite=True) as store:
        assert store.episodes == {}


def test_folders_are_readable_and_distinct(tmp_path):
    def name(spec, *others):
        return run_folder(tmp_path, spec, [spec, *others]).name

    assert name("random") == "random"
    assert name("scripted:ground-look-answer") == "scripted-ground-look-answer"
    assert name("hf:runs/demo/grpo-tiny") == "hf-demo-grpo-tiny"
    assert name("hf:../../x") != ".."
    assert name("hf:a/b/c", "hf:z/b/c") != name("hf:z/b/c", "hf:a/b/c")
