import dataclasses
from pathlib import Path

import pytest

from longvideo_env import Dataset, Gold, Question, Task, load_dataset
from longvideo_env.commands.data.leaks import main, measure_leaks, option_lines
from longvideo_env.errors import SpecError
from longvideo_env.schema import Clip, TimedText, Video

CLIP = "v_seg01_clip_00"


def made(n: int = 200, *, longest: bool = False) -> Dataset:
    """Questions whose answers boxes and captions name, and whose subtitles say nothing."""
    tasks = []
    for i in range(n):
        options = [f"word{i}{k}" for k in range(4)]
        answer = (i * 7) % 4
        if longest:
            options[answer] += " and more"
        boxes = {"1": [{"label": f"word{i}{answer}"}, {"no": "label"}, 3], "2": "x"}
        tasks.append(
            Task(Question(i, "which ?", tuple(options), "v"), Gold(answer, CLIP, None, boxes))
        )
    video = Video("v", (Clip(CLIP, (TimedText("nothing"),)),))
    return Dataset("made", "val", tuple(tasks), {"v": video})


def by_name(dataset: Dataset) -> dict[str, float]:
    return {leak.reader: leak.accuracy for leak in measure_leaks(dataset)}


def test_what_leaks_is_found_and_what_does_not_is_not() -> None:
    leaks = {leak.reader: leak for leak in measure_leaks(made())}
    assert leaks["boxes of the question"].accuracy == 1.0
    assert leaks["boxes of the question"].above_chance
    assert "captions of the gold clip" not in leaks, "there are none"
    for quiet in ("words of the question", "subtitles of the gold clip", "the longest option"):
        leak = leaks[quiet]
        assert leak.chance == 0.25
        assert leak.low < 0.25 < leak.high
        assert not leak.above_chance
    assert by_name(made(longest=True))["the longest option"] == 1.0


def test_options_that_are_level_count_for_their_share() -> None:
    question = Question(1, "red ?", ("red car", "red bus", "dog", "cat"), "v")
    video = {"v": Video("v", (Clip(CLIP),))}
    shares = {0: 0.5, 1: 0.5, 2: 0.0}
    for answer, share in shares.items():
        dataset = Dataset("ties", "val", (Task(question, Gold(answer)),), video)
        assert by_name(dataset)["words of the question"] == share


def test_options_that_are_odd_are_counted() -> None:
    options = ("x", "y", "y", "All of the above")
    tasks = tuple(Task(Question(i, "?", options, "v"), Gold(3)) for i in range(20))
    dataset = Dataset("odd", "val", tasks, {"v": Video("v", (Clip(CLIP),))})
    leaks = {leak.reader: leak for leak in measure_leaks(dataset)}
    assert leaks["options that point at others"].accuracy == 1.0
    lines = option_lines(dataset)
    assert "a3 1.000 (0.839-1.000)" in lines[0]
    assert lines[1].startswith("the right option is the longest of all: 1.000 (")
    assert lines[2].startswith("options that point at others: 20 questions")
    assert lines[3].startswith("equal options: 20 questions (0, 1, 2, ...)")


def test_the_real_pack_leaks_through_its_boxes(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(shared_data / "tvqa_plus_dev"), "--strict"]) == 3
    out, err = capsys.readouterr()
    assert "boxes of the question" in out
    assert "595" in out
    assert "warning: boxes of the question: 5" in err
    assert "never show them to an agent" in err


def test_a_set_without_answers_is_refused() -> None:
    dataset = made(3)
    tasks = tuple(Task(task.question, Gold()) for task in dataset)
    with pytest.raises(SpecError, match="none of the 3 questions"):
        measure_leaks(dataclasses.replace(dataset, tasks=tasks))


def test_mini_gives_nothing_away_without_its_clips() -> None:
    leaks = {leak.reader: leak for leak in measure_leaks(load_dataset("mini:videos=150", "train"))}
    for reader in ("the longest option", "the shortest option", "the most frequent position"):
        assert not leaks[reader].above_chance, reader
