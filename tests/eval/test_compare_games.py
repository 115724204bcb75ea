"""One table across games."""

import json

import pytest

from eval.compare_games import main
from eval.metrics.pairs import count_folders
from eval.run_policy import main as evaluate

MINI = ["--dataset", "mini:videos=8", "--split", "test", "--limit", "16"]


def table(out):
    return json.loads((out / "games.json").read_text())


def test_every_game_on_the_same_questions(tmp_path, capsys):
    assert main(["--policy", "teacher:mini", *MINI, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = table(tmp_path)["games"]
    assert next(iter(found)) == "longvideoagent"
    assert {"dvd", "dvd-lite", "longvt", "videoagent", "longvideoagent-released"} < set(found)
    for game, row in found.items():
        assert row["summary"]["n_finished"] == 16
        assert f" {game} " in printed
        if game != "longvideoagent":
            direct = count_folders(tmp_path / "longvideoagent", tmp_path / game)
            assert row["against_first"]["difference"] == direct["difference"]
    lines = (tmp_path / "longvt" / "episodes.jsonl").read_text().splitlines()
    seen = [json.loads(line)["seen_s"] for line in lines]
    assert found["longvt"]["film_s"] == pytest.approx(sum(seen) / 16)
    again = (tmp_path / "games.md").read_text()
    assert main(["--policy", "teacher:mini", *MINI, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "games.md").read_text() == again


@pytest.mark.slow
def test_a_game_that_cannot_be_played_is_named(tmp_path, capsys):
    games = ["--games", "longvideoagent,dvd"]
    args = ["--policy", "hf:mini-starter", *games, "--limit", "2", "--split", "test"]
    assert main([*args, "--dataset", "mini:videos=2", "--out", str(tmp_path)]) == 0
    assert "not played: dvd: the chat template" in capsys.readouterr().out
    assert list(table(tmp_path)["games"]) == ["longvideoagent"]
    assert table(tmp_path)["games"]["longvideoagent"]["tokens"] > 0


def test_a_server_cannot_go_on_with_one_long_reply(tmp_path, capsys):
    spec = ["--policy", "openai:m@http://127.0.0.1:1/v1", "--limit", "2", "--dataset", "embedded"]
    games = ["--games", "longvideoagent-released", "--split", "train"]
    assert main([*spec, *games, "--out", str(tmp_path / "table")]) == 0
    said = capsys.readouterr().out
    assert "not played: longvideoagent-released: a chat server cannot continue one" in said
    game = ["--game", "longvideoagent-released", "--split", "train"]
    assert evaluate([*spec, *game, "--out", str(tmp_path / "run")]) == 2
    assert "load the model with hf: or vllm:" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--games", "chess"], "unknown game 'chess'"),
        (["--game", "dvd"], "give --games"),
        (["--games", ","], "expected --games"),
    ],
)
def test_bad_options(args, problem, tmp_path, capsys):
    assert main(["--policy", "random", *args, "--out", str(tmp_path)]) == 2
    assert problem in capsys.readouterr().err
