import json
import multiprocessing
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.runs.naming import run_folder
from eval.runs.store import RunStore
from longvideo_env.errors import FolderInUseError, SpecError, TrajectoryError
from longvideo_env.records.trajectory import Timings, Trajectory, read_trajectories

CONFIG = {"policy": "p", "seed": 0}


def episode(qid, status="answered"):
    return Trajectory(qid, "v", "p", 0, 0, status, 5, (), ())


def filled(folder, *episodes):
    with RunStore(folder, CONFIG) as store:
        for item in episodes:
            store.add(item)


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
    with RunStore(tmp_path, CONFIG) as store:
        for item in (episode(3), episode("x"), episode(1)):
            store.add(item)
        store.finish({"wall_s": 2.5}, [("1", 0), ("x", 0), ("3", 0)])
    assert qids(tmp_path) == [1, "x", 3]
    assert json.loads((tmp_path / "summary.json").read_text()) == {"wall_s": 2.5}
    with RunStore(tmp_path, CONFIG) as again:
        assert again.earlier_summary == {"wall_s": 2.5}


def test_episodes_lie_on_disk_and_are_read_when_asked_for(tmp_path):
    played = [replace(episode(i), timings=Timings(1.5, i)) for i in range(3)]
    for timings in (True, False):
        folder = tmp_path / str(timings)
        with RunStore(folder, CONFIG, timings=timings) as store:
            for item in reversed(played):
                store.add(item)
            assert list(store.episodes.values()) == played[::-1]
            assert store.episodes["1", 0].timings == Timings(1.5, 1)  # also where not written
            assert ("7", 0) not in store.episodes
            store.finish({}, [(str(i), 0) for i in (1, 2)])
            assert [t.qid for t in store.episodes.values()] == [1, 2, 0]
            store.add(episode(9))
            assert store.episodes["9", 0] == episode(9)
        assert qids(folder) == [1, 2, 0, 9]
        assert ('"timings"' in (folder / "episodes.jsonl").read_text()) == timings


def test_a_run_that_is_refused_is_left_as_it_is(tmp_path):
    filled(tmp_path, episode(1), episode(2, "failed"))
    before = (tmp_path / "episodes.jsonl").read_bytes()
    with pytest.raises(SpecError, match="does not request"):
        RunStore(tmp_path, CONFIG, asked=[("2", 0)])
    assert (tmp_path / "episodes.jsonl").read_bytes() == before


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
    assert name("hf:mini-starter") == "hf-mini-starter"
    assert name("hf:Qwen/Qwen3-4B") == "hf-Qwen-Qwen3-4B"
    assert name("openai:gpt-4o@local,stop=false") == "openai-gpt-4o@local,stop=false"
    assert ".." not in name("hf:../../x")
    assert name("hf:a/b/c") != name("hf:z/b/c")
    assert name("openai:A@http://h/v1") != name("openai:B@http://h/v1")
    assert name("openai:A@http://h:1/v1") != name("openai:A@http://h:2/v1")
    assert name("hf:one/base+runs/lora") != name("hf:two/base+runs/lora")


PARTS = st.text("ab-/:+.@", min_size=1, max_size=8)


@pytest.mark.slow
@settings(max_examples=200)
@given(specs=st.lists(st.tuples(st.sampled_from(["hf", "openai", "x"]), PARTS), unique=True))
def test_no_two_policies_share_a_folder(tmp_path_factory, specs):
    out = tmp_path_factory.mktemp("runs")
    owners = {}
    for _ in range(2):  # after a resume, each finds its own
        for kind, rest in specs:
            folder = run_folder(out, f"{kind}:{rest}")
            assert folder.parent == out
            assert owners.setdefault(folder.name, f"{kind}:{rest}") == f"{kind}:{rest}"
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text(json.dumps({"policy": f"{kind}:{rest}"}))
    assert len(owners) == len(specs)


def test_policies_of_one_command_are_told_apart_before_anything_is_written(tmp_path):
    specs = ["hf:runs/demo/x", "hf:demo/x", "hf:demo-x"]
    assert len({run_folder(tmp_path, spec, specs) for spec in specs}) == 3


def hold(folder, ready):
    with RunStore(folder, CONFIG):
        ready.send(True)
        time.sleep(60)


def test_a_folder_has_one_writer_and_a_killed_one_frees_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, ours = context.Pipe(duplex=False)
    holder = context.Process(target=hold, args=(tmp_path, ours))
    holder.start()
    assert ready.poll(60)
    with pytest.raises(FolderInUseError, match=rf"process {holder.pid} on .*, since 20.* Fix:"):
        RunStore(tmp_path, CONFIG, overwrite=True)
    holder.kill()
    holder.join(60)
    for _ in range(2):  # also after a refusal, and after a run
        with RunStore(tmp_path, CONFIG), pytest.raises(FolderInUseError):
            RunStore(tmp_path, CONFIG)
        with pytest.raises(SpecError, match="seed=0"):
            RunStore(tmp_path, {**CONFIG, "seed": 1})
