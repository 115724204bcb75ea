from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from longvideo_env.datasets import load_dataset
from longvideo_env.errors import DataError, SpecError
from train.grpo import load_questions
from train.options.grpo_options import parse
from train.planning.prompt_sets import Selection, main, read_qids, select

TASKS = load_dataset("mini", "train").tasks


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def test_writes_questions_with_their_first_clip_and_no_gold(tmp_path: Path) -> None:
    mini = "mini:videos=30"
    flags = ["--dataset", mini, "--out", str(tmp_path), "--per_video", "2", "--val_share", "0.2"]
    assert main([*flags, "--tokenizer", "mini-starter"]) == 0
    train, val = rows(tmp_path / "train.parquet"), rows(tmp_path / "val.parquet")
    assert not {row["video_id"] for row in train} & {row["video_id"] for row in val}
    assert max(Counter(row["video_id"] for row in train + val).values()) == 2
    dataset = load_dataset(mini, "train")
    assert set(train[0]) == {
        "qid", "video_id", "show", "question", "options", "first_clip", "prompt_tokens",
        "words",
    }  # fmt: skip
    for row in train:
        question = dataset.task(row["qid"]).question
        assert row["options"] == list(question.options), "all of them"
        assert row["first_clip"] in dataset.video(question)
        assert row["prompt_tokens"] > 50
    before = (tmp_path / "train.parquet").read_bytes()
    assert main([*flags, "--tokenizer", "mini-starter"]) == 0
    assert (tmp_path / "train.parquet").read_bytes() == before


def test_seeds_draw_and_splits_do_not_share_videos() -> None:
    drawn = [select(TASKS, Selection(limit=20, val_share=0.5, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert len(drawn[0]["train"]) == 20
    everything = select(TASKS, Selection())
    assert everything == {"train": list(TASKS), "val": []}


@pytest.mark.parametrize("options", [{"val_share": 1.0}, {"limit": 0}, {"per_video": 0}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="must be at least"):
        Selection(**options)


def test_training_takes_the_questions_of_a_prompt_set(flags: list[str], tmp_path: Path) -> None:
    assert main(["--dataset", "embedded", "--out", str(tmp_path), "--limit", "4"]) == 0
    chosen = tmp_path / "train.parquet"
    args, env, training, _ = parse([*flags, "--questions", str(chosen)])
    questions = load_questions(args, env, training)
    assert [str(task.qid) for task in questions.tasks] == read_qids(chosen)
    assert len(questions.tasks) == 4


def test_what_is_no_prompt_set_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set.parquet").write_text("text")
    with pytest.raises(DataError, match="make one with"):
        read_qids(tmp_path / "set.parquet")
    assert main(["--dataset", "nowhere", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("longvideo-env prompt-set: ")
