import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.compare import main as compare
from eval.metrics.pairs import read_run
from eval.run_policy import main as run_policy
from eval.score import choice_of, main
from longvideo_env import load_dataset

MINI = ("--dataset", "mini:videos=10", "--split", "test")
OPTIONS = ("red", "a dog", "blue", "two cats", "7")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    for policy in ("random", "teacher:mini:0:0"):
        assert run_policy(["--policy", policy, "--out", str(out), *MINI]) == 0
    return out


def answers_of(folder):
    """A run's answers in the dataset's order of options. The run may have shuffled them."""
    found = {}
    for t in read_run(folder).episodes.values():
        shown = t.choice
        found[str(t.qid)] = shown if t.option_order is None else t.option_order[shown]
    return found


def write(path, answers, form):
    rows = [{"qid": qid, "answer": answer} for qid, answer in answers.items()]
    texts = {
        "object": json.dumps(answers),
        "array": json.dumps(rows),
        "lines": "".join(json.dumps(row) + "\n" for row in rows),
        "csv": "qid,answer\n" + "".join(f"{row['qid']},{row['answer']}\n" for row in rows),
    }
    path.write_text(texts[form], encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("form", ["object", "array", "lines", "csv"])
def test_a_file_of_answers_scores_as_the_run_that_gave_them(played, tmp_path, capsys, form):
    answers = {q: f"a{i}" for q, i in answers_of(played / "teacher-mini-0-0").items()}
    file = write(tmp_path / "theirs.txt", answers, form)
    out = tmp_path / "run"
    assert main([file, *MINI, "--out", str(out)]) == 0
    ours = json.loads((played / "teacher-mini-0-0" / "summary.json").read_text())
    theirs = json.loads((out / "summary.json").read_text())
    for name in ("accuracy", "accuracy_ci95", "n_videos", "n_scored", "mean_of_shows"):
        assert theirs[name] == ours[name]
    assert {s: g["accuracy"] for s, g in theirs["by_show"].items()} == {
        s: g["accuracy"] for s, g in ours["by_show"].items()
    }
    capsys.readouterr()
    assert compare([str(played / "random"), str(out)]) == 0
    text = capsys.readouterr().out
    assert "B: theirs" in text
    assert "left out: 0" in text


def test_what_is_missing_or_unreadable_is_wrong_and_said(played, tmp_path, capsys):
    answers = {q: f"a{i}" for q, i in answers_of(played / "teacher-mini-0-0").items()}
    first, second, *_ = answers
    del answers[first]
    answers[second] = "a1 or a2"
    file = write(tmp_path / "x.json", answers, "object")
    for _ in range(2):  # again, into the same folder
        assert main([file, *MINI, "--out", str(tmp_path / "run")]) == 0
        out = capsys.readouterr().out
        assert "1 of 40 questions have no answer and count as wrong" in out
        assert f"1 answers name no option and count as wrong: {second}" in out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["n_scored"] == 40


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"nobody": "a1"}', "1 of 1 ids are not in"),
        ("qid,answer\n1,a1\n1,a2\n", "answers question 1 twice"),
        ("[1, 2]", "has no answers by question"),
        ('{"1": ', "has no answers by question"),
        ("[]", "has no answer"),
        ("", "has no answer"),
        ("id;answer\n1;a1\n", "has no answers by question"),
    ],
)
def test_bad_files_are_one_clear_line_and_exit_2(tmp_path, capsys, text, problem):
    (tmp_path / "x.json").write_text(text)
    assert main([str(tmp_path / "x.json"), *MINI, "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("longvideo-env score: ")
    assert problem in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("a0", 0), ("(a1)", 1), ("C", 2), ("d", 3), ("4", 4), ("Two cats", 3), ("7", None),
        ("", None), ("a9", None), ("F", None), ("a1 or a2", None), ("cats", None),
    ],
)  # fmt: skip
def test_how_an_answer_is_read(answer, choice):
    assert choice_of(answer, OPTIONS) == choice


@given(st.text(max_size=60))
def test_any_text_names_an_option_or_none(text):
    choice = choice_of(text, OPTIONS)
    assert choice is None or 0 <= choice < len(OPTIONS)


def test_gold_is_read_once_and_kept_out_of_the_episode(tmp_path):
    task = load_dataset("mini:videos=10", "test").tasks[0]
    file = write(tmp_path / "x.json", {str(task.qid): "a0"}, "object")
    assert main([file, *MINI, "--out", str(tmp_path / "run")]) == 0
    line = (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()[0]
    assert json.loads(line)["correct"] is bool(task.gold.is_right(0))
    assert "gold" not in line
