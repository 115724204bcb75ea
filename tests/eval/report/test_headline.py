"""The first sentence of a page, and the line below its title."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.report.folders import read_sources
from eval.report.headline import about, headline


def described(name: str, accuracy: float | None, **more: Any) -> dict[str, Any]:
    summary = {"accuracy": accuracy, "accuracy_ci95": [0.4, 0.6], "n_scored": 40}
    run = {"name": name, "kind": "evaluation", "oracle": False, "leaky": False}
    return run | {"summary": summary} | more


def paired(
    a: int, b: int, a_only: int, b_only: int, p: float | None, ci: Sequence[float] | None
) -> dict[str, Any]:
    counts = {"n": 40, "n_questions": 40, "a_only": a_only, "b_only": b_only, "both_right": 10}
    numbers = {"difference": (b_only - a_only) / 40, "difference_ci95": ci, "p": p, "p_holm": p}
    return {"a": a, "b": b, **counts, **numbers}


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (
            paired(0, 1, 2, 12, 0.004, [0.1, 0.4]),
            "B is 25.0 points ahead of A, 55.0% against 30.0% of 40 questions, and this is hardly "
            "chance (95% interval +10.0 to +40.0 points; p = 0.0040).",
        ),
        (
            paired(0, 1, 12, 8, 0.3, [-0.3, 0.1]),
            "A is 10.0 points ahead of B, 55.0% against 45.0% of 40 questions, but this can be "
            "chance (95% interval \u221210.0 to +30.0 points; p = 0.3000).",
        ),
        (
            paired(0, 1, 4, 8, None, None),
            "B is 10.0 points ahead of A, 45.0% against 35.0% of 40 questions, and one video does "
            "not show whether this is chance.",
        ),
        (paired(0, 1, 6, 6, 1.0, [-0.1, 0.1]), "A and B are level: 40.0% of 40 questions right."),
    ],
)
def test_it_says_who_is_ahead_by_how_much_and_how_sure(pair: dict[str, Any], sentence: str) -> None:
    assert headline([described("A", 0.5), described("B", 0.5)], [pair]) == sentence


def test_the_two_best_are_set_against_each_other() -> None:
    runs = [described("A", 0.3), described("B", 0.5), described("C", 0.4)]
    numbers = (4, 8, 0.3, [-0.1, 0.3])
    pairs = [paired(0, 1, *numbers), paired(0, 2, *numbers), paired(1, 2, 8, 4, 0.3, [-0.3, 0.1])]
    text = headline(runs, pairs)
    assert text.startswith("B is 10.0 points ahead of C, ")
    assert text.endswith("p = 0.3000, Holm's for 3 comparisons).")


def test_a_run_that_was_given_gold_never_leads() -> None:
    runs = [described("A", 0.3), described("top", 0.9, oracle=True), described("B", 0.2)]
    numbers = (8, 4, 0.3, [-0.3, 0.1])
    text = headline(runs, [paired(0, 1, *numbers), paired(0, 2, *numbers)])
    assert text.startswith("A is 10.0 points ahead of B")
    assert text.endswith("; left out, because given gold: top.")
    assert headline(runs[1:2], []).startswith("top answers 90.0% of 40 questions right (")


def test_runs_on_other_questions_are_not_set_against_each_other() -> None:
    text = headline([described("A", 0.3), described("B", 0.5)], [])
    assert text == (
        "B has the highest accuracy (50.0% right), but no other run has finished the same "
        "questions."
    )


def test_without_an_evaluation_the_training_speaks(training: Path) -> None:
    means = [0.2, None, 0.75]
    curves = {"steps": [1, 2, 30], "smooth": 10, "lines": {"reward": {"mean": means}}}
    run = described("grpo", None, kind="training", curves=curves)
    assert headline([run], []) == (
        "grpo: mean reward 0.20 at the start and 0.75 at step 30 (means over 10 steps)."
    )
    assert headline([described("grpo", None, kind="training", curves=None)], []) == ""


def test_the_title_names_dataset_split_questions_and_day(runs: Path) -> None:
    sources = read_sources([runs])
    for source, day in zip(sources, (19_000, 19_002), strict=True):
        for file in source.files:
            os.utime(file, (86_400 * day, 86_400 * day))
    found = re.fullmatch(
        r"mini, split train \u00b7 (\d+) questions of (\d+) videos \u00b7 played 2022-01-08 to "
        r"2022-01-10",
        about(sources),
    )
    assert found
    assert int(found[1]) == len(sources[0].episodes)
    assert int(found[2]) == len({t.video_id for t in sources[0].trajectories})


def test_the_page_begins_with_both(
    runs: Path, make_report: Callable[..., Path], read_block: Callable[..., Any]
) -> None:
    page = make_report(runs)
    index = read_block(page, "index")
    assert " points ahead of " in index["headline"]
    assert about(read_sources([runs])) in page.read_text(encoding="utf-8")
