"""Runs with words or time spans as answers, and their scores."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import pytest

import longvideo_env as lv
from eval.bundle.packing import main as bundle
from eval.bundle.run_table import main as table
from eval.bundle.verify import main as verify
from eval.compare import main as compare
from eval.report.command import write_report
from eval.rescore import main as rescore
from eval.run_policy import main as run_policy
from eval.score import main as score
from longvideo_env.choices import pinned_options
from longvideo_env.datasets.forms import ask_as
from longvideo_env.game.matching import answer_scores
from longvideo_env.schema import Gold
from longvideo_env.seeding import derive_seed
from longvideo_env.testing import SENTINEL, SENTINEL_NUMBER

ROOT = Path(__file__).parents[2]
CGBENCH = ROOT.parent / "shared" / "data" / "cgbench_sample"
TVQA = ROOT.parent / "shared" / "data" / "tvqa_plus_dev"


def some_time(messages):
    """One or two time spans that depend only on the question."""
    text = messages[-1]["content"]
    question = text[text.index("Question:") :].splitlines()[0]
    a = derive_seed(0, question) % 3000 / 7
    second = f"; {a + 300:.3f} - {a + 330:.3f}" if int(a) % 2 else ""
    return f"<answer>{a:.3f} - {a + 95.25:.3f}{second}</answer>"


def covered(spans, pieces):
    """The pieces that lie inside one of the spans."""
    return {(a, b) for a, b in pieces if any(s <= a and b <= e for s, e in spans)}


def iou_by_pieces(said, gold):
    ends = sorted({t for span in (*said, *gold) for t in span})
    pieces = list(pairwise(ends))
    mine, theirs = covered(said, pieces), covered(gold, pieces)
    either = sum(b - a for a, b in mine | theirs)
    return sum(b - a for a, b in mine & theirs) / either if either else 0.0


@pytest.mark.skipif(not CGBENCH.is_dir(), reason="needs ../shared/data/cgbench_sample")
def test_temporal_iou_on_cgbench_equals_a_direct_computation(tmp_path):
    rows = {
        str(row["qid"]): row
        for row in json.loads((CGBENCH / "cgbench_mini.json").read_text(encoding="utf-8"))
    }
    result = lv.evaluate(
        some_time,
        dataset=f"cgbench:{CGBENCH}",
        split="mini",
        ask="when",
        grounding="none",
        vision="none",
        out=tmp_path,
    )
    played = result.episodes
    assert len(played) == len(rows) == result.summary["n_scored"]
    values = []
    for t in played:
        said = [tuple(map(float, part.split("-"))) for part in t.said.split(";")]
        direct = iou_by_pieces(said, [tuple(s) for s in rows[str(t.qid)]["clue_intervals"]])
        assert t.answer_scores["iou"] == pytest.approx(direct, abs=1e-6)
        assert t.correct is (t.answer_scores["iou"] >= 0.5)
        assert t.reward_terms["answer"] == t.answer_scores["iou"]
        values.append(direct)
    assert max(values) > 0.05
    figures = result.summary["answers"]["when"]
    assert figures["iou"] == pytest.approx(sum(values) / len(values))
    for threshold, share in figures["r_at"].items():
        hits = [value >= float(threshold) for value in values]
        assert share["share"] == pytest.approx(sum(hits) / len(hits))
    assert list(result.to_pandas()["iou"]) == pytest.approx(values, abs=1e-6)


@pytest.mark.skipif(not TVQA.is_dir(), reason="needs ../shared/data/tvqa_plus_dev")
def test_times_of_clips_become_times_of_the_video():
    dataset = ask_as(lv.load_dataset(str(TVQA), "val"), "when")
    plain = lv.load_dataset(str(TVQA), "val")
    assert len(dataset) + sum(dataset.coverage.left_out.values()) == len(plain)
    task = dataset[0]
    video, gold = dataset.video(task), task.gold
    at = 90.0 * video.clip_ids.index(gold.clip_id)
    assert gold.when == ((at + gold.span[0], at + gold.span[1]),)
    assert answer_scores(f"{at + gold.span[0]} - {at + gold.span[1]}", gold)["iou"] == 1.0


def test_a_perfect_and_a_silent_answer_score_as_they_should():
    for ask in ("words", "when"):
        env = gym.make("LongTVQA-v0", dataset="mini:videos=4", split="test", ask=ask)
        for task in env.unwrapped.dataset.tasks:
            if ask == "words":
                right = task.gold.text.upper() + "!"
            else:
                right = "; ".join(f"{a}-{b}" for a, b in task.gold.when)
            env.reset(options={"qid": task.qid})
            *_, info = env.step(f"<answer>{right}</answer>")
            assert info["reward_terms"] == {"answer": 1.0, "validity": 1.0}
            assert set(info["answer_scores"].values()) == {1.0}
            assert info["is_success"] is True
        env.reset(options={"qid": task.qid})
        for _ in range(5):
            *_, truncated, info = env.step("I do not know.")
        assert truncated
        assert info["is_success"] is False
        assert info["reward_terms"]["answer"] == 0.0


def test_token_f1_counts_words_as_squad_does():
    gold = Gold(text="The red mug on the table")
    assert answer_scores("a RED mug, on table.", gold) == {"exact_match": 1.0, "token_f1": 1.0}
    found = answer_scores("red red cup on the table", gold)
    assert found == {"exact_match": 0.0, "token_f1": pytest.approx(2 * 3 / (5 + 4))}
    assert answer_scores(None, gold) == {"exact_match": 0.0, "token_f1": 0.0}
    assert answer_scores("a0", Gold(answer=0)) == {}


def say_a_day(messages):
    return "<answer>thursday</answer>"


@pytest.mark.parametrize(
    ("ask", "term"), [("words", "token_f1"), ("when", "iou"), ("when", "recall")]
)
def test_training_rewards_may_weigh_each_score(ask, term, tmp_path):
    policy = some_time if ask == "when" else say_a_day
    result = lv.evaluate(
        policy,
        dataset="mini:videos=4",
        split="test",
        ask=ask,
        reward=f"paper,{term}=0.5",
        out=tmp_path,
    )
    for t in result.episodes:
        assert t.reward_terms[term] == t.answer_scores[term]
        terms = t.reward_terms
        assert t.reward == pytest.approx(terms["answer"] + 0.1 + 0.5 * terms[term])
    assert "by words" not in result.summary


@pytest.mark.parametrize("ask", ["words", "when"])
def test_a_run_is_resumed_rescored_reported_bundled_and_verified(ask, tmp_path, capsys):
    (tmp_path / "own.py").write_text(
        f"ANSWER = {'12.5 - 400' if ask == 'when' else 'thursday'!r}\n"
        "def guess(messages):\n    return f'<answer>{ANSWER}</answer>'\n",
        encoding="utf-8",
    )
    out = tmp_path / "runs"
    args = ["--policy", f"{tmp_path}/own.py:guess", "--dataset", "mini:videos=6", "--split", "test"]
    assert run_policy([*args, "--ask", ask, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert ("R@0.5" if ask == "when" else "token F1") in text
    (folder,) = [path.parent for path in out.rglob("episodes.jsonl")]
    before = (folder / "episodes.jsonl").read_bytes()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["ask"] == ask
    assert "labels" not in config
    assert "judge" not in config
    assert run_policy([*args, "--ask", ask, "--out", str(out)]) == 0
    assert (folder / "episodes.jsonl").read_bytes() == before
    assert run_policy([*args, "--out", str(out)]) == 1  # another form is another run
    assert "ask" in capsys.readouterr().err
    assert rescore([str(folder), "--out", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "summary.json").read_text(encoding="utf-8"))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert again["answers"] == summary["answers"]
    write_report([folder], tmp_path / "report.html")
    assert table([str(folder)]) == 0
    assert ("| R@0.7" if ask == "when" else "| token F1") in capsys.readouterr().out
    zipped = tmp_path / "paper.zip"
    assert bundle([str(folder), "--out", str(zipped)]) == 0
    assert verify([str(zipped), "--replay"]) == 0
    lines = before.decode().splitlines()
    name = "iou" if ask == "when" else "token_f1"
    changed = json.loads(lines[0])
    changed["answer_scores"][name] = 0.875
    (folder / "episodes.jsonl").write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    capsys.readouterr()
    assert rescore([str(folder), "--out", str(tmp_path / "third")]) == 3
    assert "answer_scores" in capsys.readouterr().out


def test_nothing_gold_is_said_in_any_form(monkeypatch):
    def secret(gold):
        return Gold(text=SENTINEL, when=((SENTINEL_NUMBER, SENTINEL_NUMBER + 1.0),))

    for ask in ("words", "when"):
        env = gym.make("LongTVQA-v0", dataset="mini:videos=4", split="test", ask=ask).unwrapped
        env.dataset = type(env.dataset)(
            env.dataset.name,
            env.dataset.split,
            tuple(type(t)(t.question, secret(t.gold)) for t in env.dataset.tasks),
            env.dataset.videos,
        )
        for task in env.dataset.tasks:
            text, info = env.reset(options={"qid": task.qid})
            said = [text, json.dumps(info)]
            for action in ("<search>who?</search>", "<request_grounding/>", "<answer>"):
                text, _, _, _, info = env.step(action)
                said += [text, json.dumps(info)]
            assert SENTINEL not in "".join(said)
            assert str(SENTINEL_NUMBER) not in "".join(said)


@pytest.mark.parametrize("ask", ["words", "when"])
def test_answers_of_others_get_the_same_scores(ask, tmp_path, capsys):
    """A run's answers, scored as a file from elsewhere, give the same figures."""
    mine = lv.evaluate(
        "scripted:ground-answer", dataset="mini:videos=6", split="test", ask=ask, out=tmp_path / "a"
    )
    answers = {str(t.qid): t.said for t in mine.episodes}
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps(answers), encoding="utf-8")
    args = ["--dataset", "mini:videos=6", "--split", "test", "--ask", ask]
    assert score([str(file), *args, "--out", str(tmp_path / "b")]) == 0
    theirs = json.loads((tmp_path / "b" / "summary.json").read_text(encoding="utf-8"))
    assert theirs["answers"] == mine.summary["answers"]
    assert theirs["accuracy"] == mine.summary["accuracy"]
    assert compare([str(tmp_path / "b"), str(mine.folder)]) == 0
    assert "B - A: +0.000" in capsys.readouterr().out
    if ask == "when":
        file.write_text(json.dumps({**answers, next(iter(answers)): "soon"}), encoding="utf-8")
        assert score([str(file), *args, "--out", str(tmp_path / "c")]) == 0
        assert "1 answers cannot be read and count as wrong" in capsys.readouterr().out


def test_two_runs_are_compared_by_their_scores(tmp_path, capsys):
    shared = {"dataset": "mini:videos=8", "split": "test", "ask": "when"}
    mine = lv.evaluate("scripted:ground-answer", **shared, out=tmp_path / "a")
    other = lv.evaluate("random", **shared, out=tmp_path / "b")
    found = mine.compare(other)["answers"]["iou"]
    means = [r.summary["answers"]["when"]["iou"] for r in (mine, other)]
    assert found["difference"] == pytest.approx(means[0] - means[1])
    assert found["difference_ci95"][0] <= found["difference"] <= found["difference_ci95"][1]
    assert compare([str(other.folder), str(mine.folder)]) == 0
    assert "temporal IoU B - A: +" in capsys.readouterr().out


def test_questions_that_cannot_be_asked_so_are_left_out_and_counted():
    rows = [
        {"qid": 1, "question": "Q?", "a0": "x", "a1": "y", "answer": 0, "video": "v"},
        {"qid": 2, "question": "Q?", "a0": "x", "a1": "both A and C", "a2": "z", "answer": 0,
         "video": "v"},
    ]  # fmt: skip
    dataset = lv.load_dataset(rows, "val")
    assert pinned_options(dataset[1].question.options)
    words = ask_as(dataset, "words")
    assert [task.qid for task in words] == [1]
    assert words.coverage.left_out == {"with an option that speaks of others": 1}
    assert words[0].gold.text == "x"
    assert ask_as(dataset, "when").coverage.left_out == {"without a known span": 2}
    assert ask_as(dataset, "choice") is dataset


def test_a_run_of_the_last_release_goes_on(tmp_path):
    """Its configuration has no form of answer, no labels and no judge."""
    args = ["--policy", "random", "--dataset", "mini:videos=4", "--split", "test"]
    assert run_policy([*args, "--limit", "5", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "random"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert not {"ask", "labels", "judge"} & config.keys()
    first = (folder / "episodes.jsonl").read_text(encoding="utf-8")
    assert not {"ask", "answer_scores", "judged"} & json.loads(first.splitlines()[0]).keys()
    assert run_policy([*args, "--limit", "9", "--out", str(tmp_path)]) == 0
    assert set(first.splitlines()) <= set(
        (folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    )


def test_help_tells_what_can_be_asked():
    done = subprocess.run(
        [sys.executable, "eval/run_policy.py", "--help-all"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    for word in ("--ask", "--labels", "--judge"):
        assert word in done.stdout
