"""The selection of questions: by id, from a file, from a run or drawn; and older runs."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import longvideo_env as lv
from eval.run_policy import main
from eval.runs.identify import questions_of
from eval.runs.selection import QuestionSelection, choose
from longvideo_env import load_dataset
from longvideo_env.datasets.draw_questions import draw_order, video_ids
from longvideo_env.errors import SpecError

MINI = "mini:videos=12"


@pytest.fixture(scope="module")
def mini():
    return load_dataset(MINI, "test")


def chosen(dataset, folder=None, **wanted):
    found = choose(dataset, QuestionSelection(**wanted), questions_of(dataset), folder)
    return [task.qid for task in found.tasks]


def run(out, *more, policy="random"):
    args = ["--policy", policy, "--dataset", MINI, "--split", "test", "--out", str(out)]
    return main([*args, *map(str, more)])


def played(folder):
    lines = (folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_ids_and_ranges(mini):
    qids = mini.qids
    low, high = qids[3], qids[6]
    wanted = f"{qids[1]}, {low}-{high}"
    assert chosen(mini, questions=wanted) == [qids[1], *qids[3:7]]
    rows = [{"qid": n, "question": f"Q{n}?", "a0": "x", "a1": "y", "answer": 0, "video": "v"}
            for n in (9, 40, 7, 12, 60)]  # fmt: skip
    assert chosen(load_dataset(rows, "val"), questions="12,10-50") == [40, 12]
    with pytest.raises(SpecError, match="no question 'x' among the 48 of"):
        chosen(mini, questions="x")
    with pytest.raises(SpecError, match="names no question"):
        chosen(mini, questions=" , ")


def test_a_file_of_ids(mini, tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text(f"# hard ones\n\n{mini.qids[5]}\n{mini.qids[2]}\n", encoding="utf-8-sig")
    assert chosen(mini, questions=f"@{file}") == [mini.qids[2], mini.qids[5]]
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(SpecError, match="with one id per line"):
            chosen(mini, questions=f"@{path}")


def test_the_limit_draws_over_videos(mini):
    ids = dict(zip(mini.qids, video_ids(mini), strict=True))
    assert len({ids[qid] for qid in chosen(mini, limit=12)}) == 12
    assert chosen(mini, limit=12) == chosen(mini, limit=12, shuffle=0)
    assert chosen(mini, limit=12) != chosen(mini, limit=12, shuffle=1)
    assert chosen(mini, limit=48) == chosen(mini, limit=99) == list(mini.qids)
    with pytest.raises(SpecError, match="--limit must be at least 1"):
        QuestionSelection(limit=0)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
def test_each_video_has_its_share_and_a_larger_limit_drops_none(sizes, seed, share):
    rows = [
        {"qid": f"{v}.{i}", "question": f"Q{v}.{i}?", "a0": "x", "a1": "y", "answer": 0,
         "video": f"v{v}"}
        for v, size in enumerate(sizes)
        for i in range(size)
    ]  # fmt: skip
    dataset = load_dataset(rows, "val")
    order = draw_order(dataset, range(len(dataset)), seed)
    assert sorted(order) == list(range(len(dataset)))
    n = round(share * len(dataset))
    counts = Counter(video_ids(dataset)[i] for i in order[:n])
    for v, size in enumerate(sizes):
        # Points have equal distances: one more or less than the share, and one more for ties.
        assert abs(counts[f"v{v}"] - n * size / len(dataset)) <= 2
    small = choose(dataset, QuestionSelection(limit=max(1, n // 2), shuffle=seed), {})
    large = choose(dataset, QuestionSelection(limit=max(1, n), shuffle=seed), {})
    assert {t.qid for t in small.tasks} <= {t.qid for t in large.tasks}


def test_every_question_is_drawn_equally_often():
    sizes = (1, 2, 3, 6)
    rows = [
        {"qid": f"{v}.{i}", "question": f"Q{v}.{i}?", "a0": "x", "a1": "y", "answer": 0,
         "video": f"v{v}"}
        for v, size in enumerate(sizes)
        for i in range(size)
    ]  # fmt: skip
    dataset = load_dataset(rows, "val")
    counts = Counter(
        i for seed in range(3000) for i in draw_order(dataset, range(len(dataset)), seed)[:4]
    )
    # A third of 3,000 each; the standard deviation of one count is about 26.
    assert all(abs(n - 1000) < 140 for n in counts.values())


def test_questions_that_went_wrong_are_played_again(tmp_path, capsys):
    assert run(tmp_path / "a") == 0
    wrong = [row["qid"] for row in played(tmp_path / "a" / "random") if row["correct"] is False]
    assert run(tmp_path / "b", "--questions", f"wrong:{tmp_path / 'a' / 'random'}") == 0
    assert [row["qid"] for row in played(tmp_path / "b" / "random")] == wrong
    summary = json.loads((tmp_path / "b" / "random" / "summary.json").read_text())
    assert summary["selection"]["questions"].startswith("wrong:")
    assert summary["n_asked"] == len(wrong)
    assert run(tmp_path / "c", "--questions", f"failed:{tmp_path / 'a' / 'random'}") == 2
    assert "no question failed there" in capsys.readouterr().err
    other = ("--seed", "3", "--questions", f"wrong:{tmp_path / 'a' / 'random'}")
    assert run(tmp_path / "d", *other) == 2  # mini of another seed asks other things
    assert "played with other questions" in capsys.readouterr().err


def test_a_run_grows_but_never_shrinks(tmp_path, capsys):
    assert run(tmp_path, "--limit", 5) == 0
    first = {row["qid"] for row in played(tmp_path / "random")}
    assert run(tmp_path, "--limit", 9) == 0
    assert first < {row["qid"] for row in played(tmp_path / "random")}
    before = (tmp_path / "random" / "episodes.jsonl").read_bytes()
    assert run(tmp_path, "--limit", 5) == 1
    assert "4 episodes that this command does not request" in capsys.readouterr().err
    assert run(tmp_path, "--limit", 9, "--shuffle", 2) == 1
    assert "how --limit draws its questions" in capsys.readouterr().err
    assert (tmp_path / "random" / "episodes.jsonl").read_bytes() == before


def test_a_run_of_an_earlier_release_keeps_the_first_questions(tmp_path, mini, capsys):
    ids = ",".join(map(str, mini.qids[:6]))
    assert run(tmp_path, "--questions", ids) == 0
    path = tmp_path / "random" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["identity"]["draw"]  # like a run of an older release
    path.write_text(json.dumps(config), encoding="utf-8")
    assert run(tmp_path, "--limit", 8) == 0
    assert [row["qid"] for row in played(tmp_path / "random")] == list(mini.qids[:8])
    assert "made by an earlier release" in capsys.readouterr().err


def test_shuffled_questions_are_played_in_the_order_drawn_and_kept_in_that_of_the_data(tmp_path):
    seen = []

    def note(messages):
        seen.append(messages[1]["content"].splitlines()[0])
        return "<answer>a0</answer>"

    results = [
        lv.evaluate(
            note, dataset=MINI, split="test", out=tmp_path / str(shuffle), limit=10,
            concurrency=1, shuffle=shuffle, progress=False,
        )
        for shuffle in (None, 0)
    ]  # fmt: skip
    assert sorted(seen[:10]) == sorted(seen[10:])
    assert seen[:10] != seen[10:]
    plain, shuffled = (result.episodes for result in results)
    assert [t.qid for t in plain] == [t.qid for t in shuffled]


def test_ids_in_a_call(mini, tmp_path):
    result = lv.evaluate(
        "random", dataset=mini, questions=list(mini.qids[4:6]), out=tmp_path, progress=False
    )
    assert [t.qid for t in result.episodes] == list(mini.qids[4:6])
