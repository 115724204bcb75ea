"""The same command after a change: it is refused, with the change and a fix."""

import json
import shutil
from pathlib import Path

import pytest

from eval.rescore import main as rescore
from eval.run_policy import main
from eval.runs.failures import FailureWatch, reason_of, top_reasons
from eval.runs.identify import identify
from longvideo_env import EnvConfig, load_dataset
from longvideo_env.records.trajectory import Trajectory

ROOT = Path(__file__).parents[2]
NAME = "scripted-ground-look-answer"


@pytest.fixture
def data(tmp_path):
    return shutil.copytree(ROOT / "longvideo_env/datasets/embedded", tmp_path / "data")


def run(tmp_path, *more, policy="scripted:ground-look-answer"):
    args = ["--policy", policy, "--dataset", str(tmp_path / "data"), "--limit", "3"]
    return main([*args, "--out", str(tmp_path / "out"), *more])


def edit(path, change):
    rows = json.loads(path.read_text(encoding="utf-8"))
    change(rows)
    path.write_text(json.dumps(rows), encoding="utf-8")


def test_a_resumed_run_says_what_was_played_and_what_was_kept(data, tmp_path, capsys):
    assert run(tmp_path) == 0
    assert "kept" not in capsys.readouterr().out
    assert run(tmp_path) == 0
    assert "0 of 3 played now, 3 kept" in capsys.readouterr().out
    assert run(tmp_path, "--limit", "5") == 0
    assert "2 of 5 played now, 3 kept" in capsys.readouterr().out


def test_a_changed_question_is_named(data, tmp_path, capsys):
    assert run(tmp_path) == 0
    edit(data / "LongTVQA_plus_val.json", lambda rows: rows[1].update(q="Who sings?"))
    assert run(tmp_path) == 1
    err = capsys.readouterr().err
    assert "Changed since then: the questions (22). Fix: give another --out, or --overwrite." in err
    assert rescore([str(tmp_path / "out" / NAME)]) == 1
    assert "1 questions of " in capsys.readouterr().err
    assert run(tmp_path, "--overwrite") == 0


def test_a_corrected_key_is_rescored(data, tmp_path, capsys):
    def correct(rows):
        rows[0]["answer"] = "a0" if rows[0]["answer"] != "a0" else "a1"

    assert run(tmp_path) == 0
    edit(data / "LongTVQA_plus_val.json", correct)
    assert run(tmp_path) == 1
    folder = tmp_path / "out" / NAME
    err = capsys.readouterr().err
    assert f"the answer key (21). Fix: longvideo-env rescore {folder} scores" in err
    assert rescore([str(folder)]) == 0
    again = json.loads((folder / "rescored" / "config.json").read_text())["identity"]
    before = json.loads((folder / "config.json").read_text())["identity"]
    assert {key for key in before if before[key] != again[key]} == {"answers"}


@pytest.mark.parametrize("name", ["LongTVQA_plus_subtitle_clip_level.json", "captions.json"])
def test_changed_texts_are_refused(data, tmp_path, capsys, name):
    assert run(tmp_path) == 0
    text = (data / name).read_text(encoding="utf-8")
    (data / name).write_text(text.replace("the", "teh"), encoding="utf-8")
    assert run(tmp_path) == 1
    assert "the subtitles, captions or clips" in capsys.readouterr().err


def test_a_run_without_hashes_is_resumed_with_a_word(data, tmp_path, capsys):
    assert run(tmp_path) == 0
    folder = tmp_path / "out" / NAME
    edit(folder / "config.json", lambda config: config.pop("identity"))
    (folder / "questions.json").unlink()
    assert run(tmp_path) == 0
    assert "cannot be checked" in capsys.readouterr().err
    assert run(tmp_path, "--window", "2") == 1


def test_other_weights_are_refused(data, tmp_path, capsys):
    pytest.importorskip("torch")
    model = shutil.copytree(ROOT / "agents/starter", tmp_path / "model")
    assert run(tmp_path, "--limit", "1", policy=f"hf:{model}") == 0
    weights = model / "model.safetensors"
    data_bytes = bytearray(weights.read_bytes())
    data_bytes[-1] ^= 1
    weights.write_bytes(data_bytes)
    assert run(tmp_path, "--limit", "1", policy=f"hf:{model}") == 1
    assert "the model's files (weights, config, tokenizer)" in capsys.readouterr().err


def test_own_code_counts_and_shipped_parts_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "def thrift(play, gold):\n    return {}\n\n"
    code += "def find(request, query: str) -> str:\n    'Finds.'\n"
    dataset = load_dataset("embedded", "train")

    def hashed(**options):
        config = EnvConfig(dataset="embedded", **options)
        return identify("random", config, dataset).parts.get("code")

    assert hashed() is None
    for part in ({"reward": "paper,my_terms_here:thrift=0.5"}, {"tools": "my_terms_here:find"}):
        (tmp_path / "my_terms_here.py").write_text(code.format(1.0))
        first = hashed(**part)
        (tmp_path / "my_terms_here.py").write_text(code.format(2.0))
        assert hashed(**part) not in (None, first)


def failed(error):
    status = "failed" if error else "answered"
    return Trajectory(1, "v", "p", 0, 0, status, 5, (), (), error=error)


def test_reasons_are_counted_without_what_differs_from_episode_to_episode():
    errors = {f"vision: no frames of s05e02_seg02_clip_0{i}": 2 for i in range(5)} | {"down": 9}
    assert top_reasons(errors) == [("vision: no frames of s05e02_seg02_clip_00", 10), ("down", 9)]
    assert reason_of("HTTP 500 after 312 s") == "HTTP N after N s"


def test_failures_in_a_row_for_one_reason_stop_a_run():
    watch = FailureWatch(3)
    seen = [watch.see(failed(error)) for error in ("a", "a", "b", "b", None, "b", "b", "b")]
    assert seen == [None] * 7 + ["3 episodes in a row failed for the same reason: b"]
    assert not any(FailureWatch(0).see(failed("a")) for _ in range(100))


def test_a_run_in_which_all_fails_stops_and_says_why(tmp_path, capsys, monkeypatch):
    from agents.policies.build import RandomPolicy

    async def broken(self, context, /):
        raise TypeError("no text")

    monkeypatch.setattr(RandomPolicy, "act", broken)
    args = ["--policy", "random", "--dataset", "mini:videos=20", "--out", str(tmp_path)]
    assert main([*args, "--stop-after-failures", "7"]) == 3
    out = capsys.readouterr().out
    assert "7 of 7 episodes failed:\n  7 x policy (random): TypeError: no text" in out
    assert "stopped: 7 episodes in a row failed for the same reason" in out
    assert main([*args, "--stop-after-failures", "0", "--split", "test", "--overwrite"]) == 3
    assert "stopped" not in capsys.readouterr().out
    assert main([*args, "--stop-after-failures", "-1"]) == 2


def test_an_endpoint_where_nothing_listens_and_frames_that_are_not_there(data, tmp_path, capsys):
    pytest.importorskip("openai")
    pytest.importorskip("aiohttp")
    shutil.rmtree(data / "frames", ignore_errors=True)
    vision = "openai:eyes@http://127.0.0.1:9/v1"
    assert run(tmp_path, "--vision", vision, "--limit", "1", "--allow-blind") == 3
    out, err = capsys.readouterr()
    assert "has no frames" in err
    assert "warning: no server answers at http://127.0.0.1:9/v1" in err
    assert "1 of 1 episodes failed" in out


def test_another_default_endpoint_is_another_run(monkeypatch):
    pytest.importorskip("openai")
    dataset = load_dataset("embedded", "val")
    config = EnvConfig(dataset="embedded", split="val")

    def parts(spec, url):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        return identify(spec, config, dataset)

    first = parts("openai:m", "http://localhost:1/v1")
    assert parts("openai:m", "http://localhost:1/v1/").difference(first.parts) == []
    changed = parts("openai:m", "http://localhost:2/v1").difference(first.parts)
    assert changed == ["the default endpoint (OPENAI_BASE_URL)"]
    assert "endpoint" not in parts("openai:m@http://localhost:3/v1", "http://localhost:1/v1").parts
