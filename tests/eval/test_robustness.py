"""Robustness: paired runs on the same questions with one change."""

import json

import pytest

from eval.bundle.packing import main as bundle
from eval.bundle.verify import main as verify
from eval.metrics.paired import holm
from eval.robustness import VARIANTS, exact_match, main
from longvideo_env import load_dataset
from longvideo_env.records.trajectory import Trajectory, TurnRecord

POLICY = '''
def shrewd(messages):
    """Takes the option that says that no other is right, else the first; or says "red"."""
    lines = messages[-1]["content"].splitlines()
    for line in lines:
        label, colon, text = line.partition(": ")
        if text == "None of the other options.":
            return f"<answer>{label}</answer>"
    return "<answer>a0</answer>" if any(line.startswith("a0: ") for line in lines) else \\
        "<answer>The red!</answer>"
'''


def run(out, *more, code=0):
    (out.parent / "shrewd.py").write_text(POLICY, encoding="utf-8")
    args = ["--policy", f"{out.parent}/shrewd.py:shrewd", "--dataset", "mini:videos=6"]
    assert main([*args, "--split", "test", "--out", str(out), *more]) == code
    return json.loads((out / "robustness.json").read_text(encoding="utf-8"))["variants"]


def qids(folder):
    lines = (folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["qid"] for line in lines]


def test_variants_play_the_same_questions_and_are_paired(tmp_path, capsys):
    out = tmp_path / "r"
    found = run(out, "--limit", "12")
    assert list(found) == [variant.name for variant in VARIANTS]
    asked = qids(out / "full")
    assert len(asked) == 12
    for name, row in found.items():
        assert qids(out / name) == asked
        if name not in ("full", "no-options"):
            assert row["against_full"]["n"] == 12
    full = found["full"]["summary"]["accuracy"]
    assert found["none-of-the-others"]["summary"]["accuracy"] == 1.0
    assert found["none-of-the-others"]["against_full"]["difference"] == pytest.approx(1 - full)
    for name in ("no-vision", "no-question", "no-subtitles"):  # it reads none of these
        assert found[name]["against_full"]["difference"] == 0
    assert found["no-options"]["summary"]["accuracy"] is None
    assert found["no-options"]["exact_match"]["n"] == 12
    assert found["no-options"]["apart"]["token F1"]["n"] == 12
    for name in ("lettered-labels", "numbered-labels"):  # it names the first option by a0 alone
        assert found[name]["summary"]["accuracy"] == 0.0
        assert found[name]["summary"]["malformed_rate"] == 1.0
    text = capsys.readouterr().out
    assert "chance: 0.200" in text
    assert "no-options: exact match" in text
    assert "no-vision: not significant: the runs never disagree" in text
    assert "6 videos are few" in text
    adjusted = holm([row["against_full"] and row["against_full"]["p"] for row in found.values()])
    known = [row["against_full"] and row["against_full"]["p_holm"] for row in found.values()]
    assert known == adjusted
    assert "| none-of-the-others |" in (out / "robustness.md").read_text(encoding="utf-8")
    assert r"\bottomrule" in (out / "robustness.tex").read_text(encoding="utf-8")
    before = (out / "full" / "episodes.jsonl").read_bytes()
    again = run(out, "--limit", "12")
    assert [row["against_full"] for row in again.values()] == [
        row["against_full"] for row in found.values()]  # fmt: skip
    assert (out / "full" / "episodes.jsonl").read_bytes() == before


def test_a_variant_is_bundled_and_verified_like_any_run(tmp_path, capsys):
    out = tmp_path / "r"
    run(out, "--variant", "none-of-the-others", "--variant", "no-options", "--variant",
        "no-subtitles")  # fmt: skip
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == [
        "full", "no-options", "no-subtitles", "none-of-the-others"]  # fmt: skip
    zipped = tmp_path / "paper.zip"
    assert bundle([str(out), "--out", str(zipped)]) == 0
    assert verify([str(zipped), "--replay"]) == 0
    assert capsys.readouterr().out.count("24 episodes were played again") == 4


def test_bad_variants_are_refused(tmp_path, capsys):
    args = ["--policy", "random", "--dataset", "mini:videos=2", "--out", str(tmp_path)]
    assert main([*args, "--variant", "no-eyes"]) == 2
    assert "expected one of: full, no-vision" in capsys.readouterr().err
    assert main([*args, "--shard", "1/2"]) == 2


def test_exact_match_knows_neither_case_nor_articles():
    rows = [{"qid": i, "question": "Q?", "a0": "The red mug.", "a1": "y", "answer": 0,
             "video": f"v{i}"} for i in range(4)]  # fmt: skip
    from longvideo_env.datasets.altered import alter

    dataset = alter(load_dataset(rows, "val"), "no-options")

    def said(i, words, status="answered"):
        turn = TurnRecord(1, "answer", words)
        return Trajectory(i, f"v{i}", "p", 0, 0, status, 0, (turn,), ())

    played = [said(0, "a RED mug"), said(1, "red mugs"), said(2, "", "out_of_turns"),
              said(3, "the red mug", "failed")]  # fmt: skip
    share, interval, n = exact_match(played, dataset)
    assert (share, n) == (1 / 3, 3)
    assert interval is not None
    assert exact_match(played[3:], dataset) is None


def test_holm():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([]) == []
