import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import longvideo_env as lv
from longvideo_env.errors import DataError, SpecError
from train import grpo

MakeTrainer = Callable[..., Any]
EVAL = ["--eval_strategy", "steps", "--eval_steps", "1", "--eval_split", "test"]


def logged(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for line in lines if "eval/accuracy" in (record := json.loads(line))]


@pytest.mark.slow
def test_it_logs_the_figures_that_evaluation_gives_for_the_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "out"
    grpo.main([
        *("--model_name_or_path", "mini-starter", "--dataset", "mini", "--use_cpu", "true"),
        *("--max_turn_tokens", "32", "--instructions", "false", "--disable_tqdm", "true"),
        *("--per_device_train_batch_size", "8", "--num_generations", "8", "--max_steps", "2"),
        *("--learning_rate", "1e-3", "--warmup_steps", "0", "--save_steps", "1", "--bf16", "false"),
        *EVAL, *("--eval_limit", "24", "--eval_seed", "5", "--load_best_model_at_end", "true"),
        *("--metric_for_best_model", "eval/accuracy", "--early_stopping_patience", "3"),
        *("--output_dir", str(out), "--report_to", "none"),
    ])  # fmt: skip
    records = logged(out)
    assert [record["step"] for record in records] == [1, 2]
    assert 0 < records[0]["eval/accuracy_low"] < records[0]["eval/accuracy"]
    assert records[0]["eval/n"] == 24
    for record in records:
        played = lv.evaluate(
            f"hf:{out / 'checkpoint-'}{record['step']}",
            dataset="mini", split="test", limit=24, seed=5, instructions=False, progress=False,
            out=tmp_path / f"step-{record['step']}",
            generation={"temperature": 1.0, "max_turn_tokens": 32},
        )  # fmt: skip
        assert record["eval/accuracy"] == pytest.approx(played.accuracy)
    state = json.loads((out / "checkpoint-2" / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["best_metric"] == max(record["eval/accuracy"] for record in records)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([*EVAL[:2], "--eval_steps", "1"], "give --eval-split"),
        (
            [*EVAL, "--eval_split", "train"],
            "3 of the 3 held-out questions are also in the training set",
        ),
        ([*EVAL, "--eval_limit", "0"], "eval_limit must be at least 1"),
        (["--early_stopping_patience", "2"], "needs --load-best-model-at-end"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    make_trainer: MakeTrainer, more: list[str], message: str
) -> None:
    with pytest.raises((SpecError, DataError), match=message):
        make_trainer("--eval_limit", "3", *more)


def test_evaluation_leaves_training_as_it_was(make_trainer: MakeTrainer) -> None:
    held_out = ["--eval_split", "val", "--eval_limit", "2", "--eval_temperature", "0"]
    trainer = make_trainer(*EVAL, *held_out)
    trainer.model.train()
    first, second = trainer.evaluate(), trainer.evaluate()
    assert trainer.model.training
    for figures in (first, second):
        figures.pop("eval_seconds")
    assert first == second
    assert first["eval_n"] == 2
    with pytest.raises(SpecError, match="no held-out questions"):
        make_trainer().evaluate()
