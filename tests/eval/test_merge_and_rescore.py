import json

import pytest

from eval.merge import main as merge
from eval.rescore import main as rescore
from eval.run_policy import main as run_policy
from longvideo_env.records.trajectory import read_trajectories

POLICY = "scripted:ground-look-answer"
NAME = "scripted-ground-look-answer"


def play(out, *more, policy=POLICY):
    args = ["--policy", policy, "--dataset", "embedded", "--out", str(out)]
    assert run_policy([*args, *more]) == 0


def lines(folder):
    found = read_trajectories(folder / "episodes.jsonl")
    return [trajectory.to_json(timings=False) for trajectory in found]


def summary(folder):
    numbers = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    timed = {"wall_s", "model_s", "tools_s", "shard", "recording", "merged_from"}
    return {key: value for key, value in numbers.items() if key not in timed}


def test_shards_put_together_are_the_run(tmp_path):
    play(tmp_path / "whole", "--samples", "2")
    for i in (1, 2, 3):
        play(tmp_path / "parts", "--samples", "2", "--shard", f"{i}/3")
    parts = [str(tmp_path / "parts" / f"{NAME}.shard-{i}-of-3") for i in (2, 3, 1)]
    assert merge([*parts, "--out", str(tmp_path / "merged")]) == 0
    assert lines(tmp_path / "merged") == lines(tmp_path / "whole" / NAME)
    assert summary(tmp_path / "merged") == summary(tmp_path / "whole" / NAME)


@pytest.fixture
def benchmark(tmp_path):
    """Questions with the groups of a benchmark, in an order that gives each shard other groups."""
    rows = [
        {"qid": i, "question": f"Q{i}?", "a0": "x", "a1": "y", "answer": i % 2,
         "video": f"v{i % 6}", "length": ("short", "long")[i % 4 // 2], "type": f"type {i % 5}"}
        for i in range(24)
    ]  # fmt: skip
    path = tmp_path / "questions" / "test.json"
    path.parent.mkdir()
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def test_groups_of_a_benchmark_are_computed_over_all_shards(tmp_path, benchmark, capsys):
    common = ["--policy", "random", "--dataset", benchmark, "--split", "test", "--vision", "none"]
    for extra in ([], ["--shard", "1/2"], ["--shard", "2/2"]):
        assert run_policy([*common, "--out", str(tmp_path / "runs"), *extra]) == 0
    parts = [tmp_path / "runs" / f"random.shard-{i}-of-2" for i in (1, 2)]
    assert merge([*map(str, parts), "--out", str(tmp_path / "merged")]) == 0
    groups = summary(tmp_path / "runs" / "random")["groups"]
    assert {g["n"] for g in groups["length"]["groups"].values()} == {12}
    assert summary(tmp_path / "merged")["groups"] == groups != summary(parts[0])["groups"]
    assert rescore([str(tmp_path / "merged")]) == 0
    assert summary(tmp_path / "merged" / "rescored")["groups"] == groups
    for part in parts:
        (part / "facts.json").unlink()  # written by an older release
    assert merge([*map(str, parts), "--out", str(tmp_path / "old")]) == 3
    assert "the groups of the questions" in " ".join(capsys.readouterr().err.split())
    assert summary(tmp_path / "old")["groups"] == {}
    assert rescore([str(tmp_path / "old")]) == 0
    assert summary(tmp_path / "old" / "rescored")["groups"] == groups


def test_shards_that_do_not_belong_together_are_refused(tmp_path, capsys):
    play(tmp_path, "--shard", "1/2")
    play(tmp_path / "other", "--shard", "2/2", "--seed", "1")
    play(tmp_path / "whole")
    one = str(tmp_path / f"{NAME}.shard-1-of-2")
    other = str(tmp_path / "other" / f"{NAME}.shard-2-of-2")
    out = ["--out", str(tmp_path / "merged")]
    for shards, problem, code in (
        ([one, other], "differ in seed", 1),
        ([one, one], "given twice", 2),
        ([str(tmp_path / "whole" / NAME)], "not played with --shard", 1),
    ):
        assert merge([*shards, *out]) == code
        assert problem in capsys.readouterr().err
    assert merge([one, *out]) == 3
    capsys.readouterr()
    assert merge([one, *out]) == 1
    assert "already holds a run. Fix: give another --out, or --overwrite" in capsys.readouterr().err
    assert merge([one, *out, "--overwrite"]) == 3
    assert "shard 2/2 is missing" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_bad_shards_are_refused(tmp_path, shard, capsys):
    args = ["--policy", POLICY, "--dataset", "embedded", "--out", str(tmp_path), "--shard", shard]
    assert run_policy(args) == 2
    assert "--shard I/N" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["tags", "functions"])
@pytest.mark.parametrize("policy", [POLICY, "random"])
def test_scored_again_nothing_changes(tmp_path, capsys, policy, protocol):
    options = ("--shuffle-options", "--window", "2", "--protocol", protocol)
    play(tmp_path, *options, policy=policy)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert rescore([str(folder)]) == 0
    assert "changed: nothing" in capsys.readouterr().out
    assert lines(folder / "rescored") == lines(folder)


def test_the_protocol_is_part_of_what_a_run_is(tmp_path, capsys):
    play(tmp_path, "--protocol", "functions")
    args = ["--policy", POLICY, "--dataset", "embedded", "--out", str(tmp_path)]
    capsys.readouterr()
    assert run_policy(args) == 1
    assert "protocol" in capsys.readouterr().err
    config = tmp_path / NAME / "config.json"
    config.write_text(config.read_text().replace('"functions"', '"tags"'), encoding="utf-8")
    assert rescore([str(tmp_path / NAME)]) == 2
    assert "was played with protocol=functions" in capsys.readouterr().err.replace("\n", " ")


def test_another_reward_without_any_model(tmp_path, capsys):
    play(tmp_path)
    folder = tmp_path / NAME
    assert rescore([str(folder), "--reward", "reference", "--out", str(tmp_path / "again")]) == 0
    again = list(read_trajectories(tmp_path / "again" / "episodes.jsonl"))
    assert {t.reward for t in again} <= {0.4, 1.4}
    assert "reward in" in capsys.readouterr().out
    config = json.loads((tmp_path / "again" / "config.json").read_text(encoding="utf-8"))
    assert config["reward"] == "reference"


def test_a_tampered_answer_comes_to_light(tmp_path, capsys):
    play(tmp_path)
    folder = tmp_path / NAME
    text = (folder / "episodes.jsonl").read_text(encoding="utf-8")
    assert '"correct":false' in text
    (folder / "episodes.jsonl").write_text(text.replace('"correct":false', '"correct":true'))
    before = (folder / "episodes.jsonl").read_bytes()
    assert rescore([str(folder)]) == 3
    out = capsys.readouterr().out
    wrong = [t for t in read_trajectories(folder / "episodes.jsonl") if t.reward < 1]
    assert f"changed: correct in {len(wrong)}, of 13 episodes" in out
    for t in wrong:
        assert f"question {t.qid}: correct True -> False" in out
    changes = json.loads((folder / "rescored" / "changes.json").read_text())["changes"]
    assert [change["qid"] for change in changes] == [str(t.qid) for t in wrong]
    assert rescore([str(folder)]) == 3
    assert "rescored-2" in capsys.readouterr().out
    assert rescore([str(folder), "--out", str(folder / "rescored")]) == 1
    assert rescore([str(folder / "rescored")]) == 0
    assert (folder / "episodes.jsonl").read_bytes() == before


def test_a_run_must_not_be_overwritten_by_itself(tmp_path, capsys):
    play(tmp_path)
    assert rescore([str(tmp_path / NAME), "--out", str(tmp_path / NAME)]) == 2
    assert "must not be the run itself" in capsys.readouterr().err
    play(tmp_path / "other", policy="random")
    assert rescore([str(tmp_path / NAME), "--out", str(tmp_path / "other" / "random")]) == 1
    assert "already holds a run" in capsys.readouterr().err
