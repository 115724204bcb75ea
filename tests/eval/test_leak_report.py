import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.leaks import main, measure_leaks, option_lines
from eval.metrics.intervals import clustered_share
from eval.output.formatting import format_interval
from longvideo_env import Dataset, Gold, Question, Task, load_dataset
from longvideo_env.errors import SpecError
from longvideo_env.schema import Clip, TimedText, Video

CLIP = "v_seg01_clip_00"


def videos(n: int) -> dict[str, Video]:
    """`n` videos of one clip each, with no useful dialogue."""
    return {
        f"v{i}": Video(f"v{i}", (Clip(f"v{i}_seg01_clip_00", (TimedText("nothing"),)),))
        for i in range(n)
    }


def made(n: int = 200, *, longest: bool = False, n_videos: int = 20) -> Dataset:
    """Questions with answers that occur in the boxes, but not in the subtitles."""
    tasks = []
    for i in range(n):
        options = [f"word{i}{k}" for k in range(4)]
        answer = (i * 7) % 4
        if longest:
            options[answer] += " and more"
        boxes = {"1": [{"label": f"word{i}{answer}"}, {"no": "label"}, 3], "2": "x"}
        tasks.append(
            Task(
                Question(i, "which ?", tuple(options), f"v{i % n_videos}"),
                Gold(answer, f"v{i % n_videos}_seg01_clip_00", None, boxes),
            )
        )
    return Dataset("made", "val", tuple(tasks), videos(n_videos))


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
        assert leak.interval is not None
        assert leak.interval[0] < 0.25 < leak.interval[1]
        assert not leak.above_chance
    assert by_name(made(longest=True))["the longest option"] == 1.0


def test_options_that_are_level_count_for_their_share() -> None:
    question = Question(1, "red ?", ("red car", "red bus", "dog", "cat"), "v")
    video = {"v": Video("v", (Clip(CLIP),))}
    shares = {0: 0.5, 1: 0.5, 2: 0.0}
    for answer, share in shares.items():
        dataset = Dataset("ties", "val", (Task(question, Gold(answer)),), video)
        assert by_name(dataset)["words of the question"] == share


def test_intervals_are_clustered_by_video(capsys: pytest.CaptureFixture[str]) -> None:
    # In half of the videos the longest option is always right: 200 questions count like about 20.
    tasks = [
        Task(replace(t.question, options=("longest", "b", "c", "d")), Gold(int(i % 20 >= 10)))
        for i, t in enumerate(made())
    ]
    dataset = replace(made(), tasks=tuple(tasks))
    leaks = {leak.reader: leak for leak in measure_leaks(dataset)}
    leak = leaks["the longest option"]
    hits = [float(t.gold.answer == 0) for t in tasks]
    assert leak.accuracy == 0.5
    assert leak.interval == clustered_share(hits, [t.question.video_id for t in tasks])
    assert leak.interval is not None
    assert leak.interval[1] - leak.interval[0] > 0.35  # Wilson's for 200 questions: 0.14
    assert option_lines(dataset)[1].endswith(f"({format_interval(leak.interval)})")


def test_one_video_has_no_interval_and_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaks = measure_leaks(made(n_videos=1))
    assert leaks
    assert all(leak.interval is None and not leak.above_chance for leak in leaks)
    rows = [
        {"qid": i, "question": "which ?", "a0": "much longer", "a1": "b", "answer": 0, "video": "v"}
        for i in range(40)
    ]
    (tmp_path / "val.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main([str(tmp_path / "val.json"), "--strict"]) == 0
    assert "one video: no interval" in capsys.readouterr().out


def test_options_that_are_odd_are_counted() -> None:
    options = ("x", "y", "y", "All of the above")
    tasks = tuple(Task(Question(i, "?", options, f"v{i}"), Gold(3)) for i in range(20))
    dataset = Dataset("odd", "val", tasks, videos(20))
    leaks = {leak.reader: leak for leak in measure_leaks(dataset)}
    assert leaks["options that point at others"].accuracy == 1.0
    lines = option_lines(dataset)
    assert "a3 1.000 (0.832-1.000)" in lines[0]
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
        measure_leaks(replace(dataset, tasks=tasks))


def test_mini_gives_nothing_away_without_its_clips() -> None:
    leaks = {leak.reader: leak for leak in measure_leaks(load_dataset("mini:videos=150", "train"))}
    for reader in ("the longest option", "the shortest option", "the most frequent position"):
        assert not leaks[reader].above_chance, reader
