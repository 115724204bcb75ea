"""How often agents find the gold clip, as the command measures it."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval.recall import Found, difference, main, measure
from longvideo_env.schema import Gold, Question, Task
from longvideo_env.tools.tool import ToolCall, ToolReply


def task(qid: int, gold: Gold, video: str = "v") -> Task:
    return Task(Question(qid, "Who?", ("a", "b"), video), gold)


def test_bm25_on_the_dev_pack(shared_data: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "numbers.json"
    arguments = ["--grounding", "bm25", "--grounding", "random", "--json", str(file)]
    assert main([str(shared_data / "tvqa_plus_dev"), "--split", "val", *arguments]) == 0
    row = json.loads(file.read_text())["agents"]["bm25"]
    recalls = [round(row[f"recall@{k}"][0], 3) for k in (1, 3, 5)]
    assert recalls == [0.408, 0.632, 0.704]
    assert row["mrr"][0] == pytest.approx(0.538, abs=0.001)
    low, high = row["recall@1"][1]
    assert low < 0.408 < high
    out = capsys.readouterr().out
    assert "0.408" in out
    assert "random - bm25, 595 questions: recall@1 -0.361 (" in out


def test_places_and_seconds() -> None:
    one = task(1, Gold(clip_id="c1", span=(0.0, 10.0)), "v1")
    two = task(
        2, Gold(clip_id="c1", span=(0, 5), clues=(("c1", 0, 5), ("c2", 0, 15))), "v2"
    )  # fmt: skip
    found = [Found(one, ("c0", "c1", "c2")), Found(two, ("c2", "c0"))]
    numbers = measure(found)
    assert numbers["recall@1"][0] == 0.5
    assert numbers["recall@3"][0] == 1.0
    assert numbers["mrr"][0] == pytest.approx((1 / 2 + 1) / 2)
    assert numbers["span@1"][0] == pytest.approx((0 + 0.75) / 2)
    assert Found(one, ("c0",)).place is None
    gap = difference([Found(one, ("c0", "c1"))], found)
    assert (gap["n"], gap["recall@1"][0]) == (1, 0.0)


class Broken:
    """Fails on every question."""

    immediate = True

    def __init__(self, argument: str) -> None:
        del argument

    async def ground(self, request: ToolCall, /) -> ToolReply:
        raise RuntimeError(f"no luck with {request.question.qid}")


def test_an_agent_that_fails_is_said(capsys: Any) -> None:
    spec = f"{Path(__file__)}:Broken"
    assert main(["embedded", "--split", "val", "--grounding", "bm25", "--grounding", spec]) == 3
    captured = capsys.readouterr()
    assert "no luck with" in captured.err
    assert "questions failed" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grounding", "none"], "names no clip"),
        (["--depth", "2"], "--depth must be at least 5"),
        (["--grounding", "nobody"], "unknown grounding agent"),
        (["--limit", "0"], "nothing can be measured"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: Any) -> None:
    assert main(["embedded", "--split", "val", *arguments]) == 2
    assert message in capsys.readouterr().err
