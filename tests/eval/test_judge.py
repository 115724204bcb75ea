"""A judge of answers in words: its votes, failures, cost, recording and agreement."""

import json
import re
import sys
from pathlib import Path

import gymnasium as gym
import pytest

pytest.importorskip("openai")
pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))

from fake_server import completion, error, running

import longvideo_env as lv
from eval.asked_once.calibrate_judge import main as calibrate
from eval.bundle.card import main as card
from eval.bundle.packing import main as bundle
from eval.bundle.verify import main as verify
from eval.metrics.intervals import clustered_share
from eval.rescore import main as rescore
from eval.run_policy import main as run_policy
from longvideo_env.config import EnvConfig
from longvideo_env.datasets.forms import ask_as
from longvideo_env.errors import SpecError
from longvideo_env.game.judging import read_verdict, settled
from longvideo_env.records.trajectory import Judged, Trajectory
from longvideo_env.tools.recording import export_calls

KEY = "sk-never-to-be-seen"
ASKED = re.compile(r"Right answer: (.*)\nAnswer to grade: (.*)\n")
JUDGE = "openai:judge@fake"


def grade(body, n):
    """CORRECT if the given answer contains the right one, except for models that cannot judge."""
    right, said = ASKED.search(body["messages"][0]["content"]).groups()
    if body["model"] == "broken":
        return error(400, f"no: {KEY}")
    if body["model"] == "dumb" or (body["model"] == "torn" and body["seed"] == 0):
        return completion("Hard to say.")
    if body["model"] == "lenient":
        return completion("CORRECT")
    return completion("<think>CORRECT?</think>" + ("CORRECT" if right in said else "INCORRECT."))


@pytest.fixture
def server(tmp_path, monkeypatch):
    with running(grade) as server:
        file = tmp_path / "endpoints.yaml"
        prices = "prices: {judge: {input: 1.0, output: 10.0}}"
        file.write_text(
            f"endpoints: {{fake: {{base_url: '{server.url}', api_key_env: FAKE_KEY}}}}\n{prices}\n"
        )
        monkeypatch.setenv("LONGVIDEO_ENDPOINTS", str(file))
        monkeypatch.setenv("FAKE_KEY", KEY)
        yield server


def long_answer(messages):
    """Names two days. A judge can accept it if one of them is right. An exact match never does."""
    return "<answer>it is on thursday , or on monday</answer>"


def play(out, ask="words", policy=long_answer, **more):
    return lv.evaluate(
        policy, dataset="mini:videos=6", split="test", ask=ask, vision="none", out=out, **more
    )


def test_a_verdict_is_read_or_is_none():
    assert read_verdict("CORRECT") == read_verdict("Verdict: correct.") == 1
    assert read_verdict("**Incorrect**") == 0
    assert read_verdict("CORRECT or INCORRECT") is read_verdict("yes") is None
    assert settled(Judged("j", votes=(1, 1, 0))).right is True
    assert settled(Judged("j", votes=(1, 0, None))).right is None
    assert settled(Judged("j", votes=(None,))).right is None


def test_the_verdict_is_the_score_and_votes_and_cost_are_kept(server, tmp_path):
    result = play(tmp_path, judge=f"{JUDGE},votes=3", reward="paper,judge=0.5")
    played = result.episodes
    dataset = ask_as(lv.load_dataset("mini:videos=6", "test"), "words")
    for t in played:
        right = dataset.task(t.qid).gold.text in t.said
        assert t.judged.votes == (int(right),) * 3
        assert t.correct is t.judged.right is right
        assert t.answer_scores["exact_match"] == 0.0
        assert t.reward == pytest.approx(1.5 * t.correct + 0.1)
    assert any(t.correct for t in played)
    assert not all(t.correct for t in played)
    figures = result.summary["judge"]
    assert figures["n"] == len(played)
    assert figures["n_votes"] == 3 * len(played) == len(server.bodies)
    assert result.summary["usage"]["judge"]["requests"] == len(server.bodies)
    each = 100 * 1e-6 + 10 * 10e-6
    assert figures["usage"]["cost_usd"] == pytest.approx(each * len(server.bodies))
    assert result.summary["spent"]["usd"] == pytest.approx(each * len(server.bodies))
    assert {body["seed"] for body in server.bodies} == {0, 1, 2}
    agreement = figures["agreement"]["exact_match"]
    assert agreement["n_lenient"] == sum(t.correct for t in played)
    assert agreement["n_right"] == agreement["n_strict"] == 0
    config = json.loads((result.folder / "config.json").read_text(encoding="utf-8"))
    assert config["judge"] == f"{JUDGE},votes=3"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("model", "votes", "reason"), [("broken", 1, "400"), ("dumb", 3, "0 votes to 0, of 3")]
)
def test_a_judge_that_fails_is_no_wrong_answer(server, tmp_path, model, votes, reason):
    result = play(tmp_path, judge=f"openai:{model}@fake,votes={votes}")
    s = result.summary
    assert s["accuracy"] is None
    assert s["n_failed"] == s["n_scored"] == 0
    assert s["judge"]["n_failed"] == s["n_invalid_reward"] == s["n_finished"] > 0
    assert all(t.reward is None and reason in t.reward_error for t in result.episodes)
    assert KEY not in (result.folder / "episodes.jsonl").read_text(encoding="utf-8")


def test_the_same_command_asks_a_judge_again_that_could_not_be_asked(server, tmp_path):
    grades, server.answer = server.answer, lambda body, n: error(400) if n < 3 else grade(body, n)
    first = play(tmp_path, judge=JUDGE)
    assert first.summary["judge"]["n_failed"] == 3
    n = first.summary["n_finished"]
    again = play(tmp_path, judge=JUDGE)
    assert again.summary["judge"]["n_failed"] == 0
    assert again.summary["n_scored"] == n
    assert len(server.bodies) == n + 3
    server.answer = grades


def test_a_vote_without_a_verdict_is_counted(server, tmp_path):
    result = play(tmp_path, judge="openai:torn@fake,votes=3")
    assert result.summary["judge"]["n_unread"] == len(result.episodes)
    assert all(t.judged.votes[0] is None and t.correct is not None for t in result.episodes)


def test_votes_are_recorded_without_the_right_answer(server, tmp_path):
    recording = tmp_path / "calls.sqlite"
    more = {"judge": JUDGE, "recording": "reuse", "recording_file": str(recording)}
    first = play(tmp_path / "a", **more)
    asked = len(server.bodies)
    again = play(tmp_path / "b", **more)
    assert len(server.bodies) == asked
    third = play(tmp_path / "c", **{**more, "recording": "replay"})
    assert len(server.bodies) == asked
    votes = [[t.judged.votes for t in r.episodes] for r in (first, again, third)]
    assert votes[0] == votes[1] == votes[2]
    kept = [line for line in export_calls(recording) if '"judge"' in line]
    assert kept
    assert not any("Right answer" in line or "thursday" in line for line in kept)


def test_it_is_rescored_bundled_and_verified_without_a_server(server, tmp_path, capsys):
    result = play(tmp_path / "a", judge=f"{JUDGE},votes=3", policy="scripted:ground-answer")
    folder, asked = result.folder, len(server.bodies)
    assert rescore([str(folder), "--out", str(tmp_path / "again")]) == 0
    zipped = tmp_path / "paper.zip"
    assert bundle([str(folder), "--out", str(zipped)]) == 0
    assert verify([str(zipped), "--replay"]) == 0
    assert len(server.bodies) == asked
    assert card([str(folder), "--out", str(tmp_path / "card")]) == 0
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "agreement on answers in words, with exact match" in text
    path = folder / "episodes.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = json.loads(lines[0])
    changed["judged"]["right"] = not changed["judged"]["right"]
    path.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert rescore([str(folder), "--out", str(tmp_path / "third")]) == 3
    assert "judged" in capsys.readouterr().out


def test_the_environment_asks_it_at_the_end(server):
    env = gym.make(
        "LongTVQA-v0", dataset="mini:videos=2", split="test", ask="words", judge=JUDGE
    )  # fmt: skip
    env.reset(seed=0)
    right = env.unwrapped._task.gold.text
    _, reward, terminated, _, info = env.step(f"<answer>I think that it is {right} .</answer>")
    assert terminated
    assert info["is_success"] is True
    assert info["judged"].votes == (1,)
    assert reward == pytest.approx(1.1)
    env.reset()
    assert len(server.bodies) == 1
    *_, info = env.step("no tag")
    assert "judged" not in info


def test_calibration_on_questions_with_options(server, tmp_path, capsys):
    args = ["--policy", "random", "--dataset", "mini:videos=12", "--split", "test"]
    assert run_policy([*args, "--out", str(tmp_path)]) == 0
    folder = tmp_path / "random"
    episodes = (folder / "episodes.jsonl").read_bytes()
    assert calibrate([str(folder)]) == 2
    assert "was played without a judge" in capsys.readouterr().err
    assert calibrate([str(folder), "--judge", JUDGE]) == 0
    found = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
    good = found["judge"]["agreement"]["choice"]
    assert (good["agree"], good["n_strict"], good["n_lenient"]) == (1.0, 0, 0)
    n = len(server.bodies)
    assert calibrate([str(folder), "--judge", JUDGE]) == 0
    assert len(server.bodies) == n
    assert calibrate([str(folder), "--judge", "openai:lenient@fake"]) == 0
    bad = json.loads((folder / "judge.json").read_text(encoding="utf-8"))["judge"]["agreement"]
    played = [Trajectory.from_json(line) for line in episodes.decode().splitlines()]
    answered = [t for t in played if t.choice is not None]
    right = [bool(t.correct) for t in answered]
    assert bad["choice"]["n"] == len(answered) == good["n"]
    assert bad["choice"]["agree"] == pytest.approx(sum(right) / len(right))
    assert bad["choice"]["n_lenient"] == len(right) - sum(right)
    interval = clustered_share(right, [t.video_id for t in answered])
    assert bad["choice"]["agree_ci95"] == pytest.approx(interval)
    assert (folder / "episodes.jsonl").read_bytes() == episodes
    assert "agreement on questions with options" in capsys.readouterr().out
    assert calibrate([str(folder), "--judge", "openai:broken@fake"]) == 3


def test_a_judge_beside_options_changes_no_score(server, tmp_path):
    plain = play(tmp_path / "a", ask="choice", policy="random")
    judged = play(tmp_path / "b", ask="choice", policy="random", judge="openai:lenient@fake")
    assert [t.reward for t in plain.episodes] == [t.reward for t in judged.episodes]
    agreement = judged.summary["judge"]["agreement"]["choice"]
    assert agreement["n_right"] == sum(bool(t.correct) for t in judged.episodes)
    assert "judge" not in plain.summary


def test_bad_judges_are_refused(server):
    for spec in ("openai:judge@fake,votes=2", "openai:judge@fake,max_tokens=0", "nobody"):
        with pytest.raises(SpecError):
            gym.make("LongTVQA-v0", dataset="mini:videos=1", judge=spec)
    with pytest.raises(SpecError, match="ask must be one of"):
        EnvConfig(ask="who")
    with pytest.raises(SpecError, match="labels must be one of"):
        EnvConfig(labels="roman")
