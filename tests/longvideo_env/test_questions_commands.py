"""The commands show, questions and submission."""

import json
from pathlib import Path

import pytest

pytest.importorskip("pysubs2")

from eval.run_policy import main as run_policy
from longvideo_env.commands.data import questions, show, submission

CLIPS = {
    "film_seg01_clip_00": {"start_s": 0, "end_s": 60},
    "film_seg01_clip_01": {"start_s": 60, "end_s": 90},
}


def test_a_file_of_questions_for_a_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clips.json").write_text(json.dumps({"frames_fps": 3, "clips": CLIPS}))
    assert questions.main([str(tmp_path)]) == 0
    assert questions.main([str(tmp_path)]) == 1  # it never overwrites a file
    assert "already exists" in capsys.readouterr().err
    assert show.main([str(tmp_path / "questions.csv"), "-n", "1"]) == 0
    shown = capsys.readouterr().out
    assert "shown in film_seg01_clip_00, 0-60 s in it" in shown
    assert "2 questions, 1 videos" in shown


def test_show_says_what_was_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main(["mini", "--split", "val", "-n", "1"]) == 0
    assert "* a" in capsys.readouterr().out
    assert show.main(["nowhere"]) == 1


@pytest.mark.parametrize("form", list(submission.FORMS))
def test_a_submission(tmp_path: Path, form: str) -> None:
    row = {"question": "?", "options": ["x", "y"], "video": "v"}
    (tmp_path / "q.json").write_text(json.dumps([row, row]))
    run = tmp_path / "run"
    args = ["--policy", "random", "--dataset", str(tmp_path / "q.json"), "--split", "all",
            "--vision", "none"]  # fmt: skip
    assert run_policy([*args, "--shuffle-options", "--out", str(run)]) == 0
    folder = run / "random" if (run / "random").is_dir() else run
    assert submission.main([str(folder), "--for", form, "--out", str(tmp_path / "out.json")]) == 0
    value = json.loads((tmp_path / "out.json").read_text())
    assert len(value) == 2


def test_a_question_without_an_answer_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"question": "?", "options": ["x", "y"], "video": "v"}
    (tmp_path / "q.json").write_text(json.dumps([row, row]))
    args = ["--policy", "random", "--dataset", str(tmp_path / "q.json"), "--split", "all",
            "--vision", "none"]  # fmt: skip
    assert run_policy([*args, "--limit", "1", "--out", str(tmp_path / "run")]) == 0
    folder = next(path.parent for path in (tmp_path / "run").rglob("episodes.jsonl"))
    capsys.readouterr()
    assert submission.main([str(folder), "--for", "egoschema"]) == 3
    assert "1 answers, 1 without an answer" in capsys.readouterr().out
    assert submission.main([str(tmp_path), "--for", "egoschema"]) == 1
