"""Generated hostile tables: each one loads, or raises one of our errors."""

import csv
import io
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pysubs2")

from longvideo_env import LongVideoEnvError, load_dataset

SIZES = [pytest.param(1_000), pytest.param(10_000, marks=pytest.mark.slow)]
HOSTILE: list[object] = [
    None, True, -1, 0, 3, 1e308, float("nan"), float("inf"), 10**40, "", " ", "a1", "B", "(c)",
    "../../etc/passwd.srt", "x" * 3000, "\x00", "\ud83d", "日本", "[1, 2", "['a', 'b']", '{"A": 1}',
    [], ["a"], ["a", "b"], ["a", "a", "Both A and B"], {"A": "x", "B": "y"}, [None, 1], [[["a"]]],
    "1\n00:00:01,000 --> 00:00:02,000\nhi", "a.srt", "film.mp4", "[" * 999,
    [{"start": 1, "text": "x"}],
]  # fmt: skip
COLUMNS = [
    "question", "options", "answer", "video", "qid", "start_s", "end_s", "subtitles", "duration_s",
    "split", "a0", "a1", "A", "B", "anser", "frames", "qa", "key", "videoID", "choices",
]  # fmt: skip


def rows(rng: np.random.Generator) -> list[dict[str, object]]:
    made = []
    for _ in range(int(rng.integers(1, 4))):
        row: dict[str, object] = {
            "question": "Who?", "options": ["x", "y"], "answer": "y", "video": "v"
        }  # fmt: skip
        for _ in range(int(rng.integers(0, 5))):
            column = COLUMNS[int(rng.integers(len(COLUMNS)))]
            row[column] = HOSTILE[int(rng.integers(len(HOSTILE)))]
        made.append(row)
    return made


def as_csv(made: list[dict[str, object]], rng: np.random.Generator) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(made[0])
    writer.writerows([[str(value) for value in row.values()] for row in made])
    data = out.getvalue().encode("utf-8", "surrogatepass")
    cut = int(rng.integers(len(data))) if rng.random() < 0.3 else len(data)
    return data[:cut]


def as_json(made: list[dict[str, object]], rng: np.random.Generator) -> bytes:
    data = json.dumps(made).encode()
    cut = int(rng.integers(len(data))) if rng.random() < 0.3 else len(data)
    return data[:cut]


def tried(load: Callable[[], object]) -> bool:
    try:
        load()
    except LongVideoEnvError:
        return False
    return True


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("skip", [False, True])
def test_hostile_rows_in_memory(skip: bool, n: int) -> None:
    rng = np.random.default_rng(0)
    good = 0
    for _ in range(n // 4):
        made = rows(rng)
        good += tried(lambda made=made: load_dataset(made, skip_invalid=skip))  # type: ignore[misc]
    assert good > 0


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("form", "skip"), [*product(("csv", "json"), (False, True))])
def test_hostile_files(tmp_path: Path, form: str, skip: bool, n: int) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / f"q.{form}"
    write = as_csv if form == "csv" else as_json
    good = 0
    for _ in range(n // 8):
        path.write_bytes(write(rows(rng), rng))
        good += tried(lambda: load_dataset(path, skip_invalid=skip))
    assert good > 0


READERS = {
    "videomme": "videomme.json", "longvideobench": "lvb_val.json", "egoschema": "questions.json",
    "nextqa": "val.csv", "mlvu": "1_plotQA.json", "lvbench": "video_info.meta.json",
    "videoholmes": "test_Video-Holmes.json", "cgbench": "cgbench.json",
}  # fmt: skip
THEIRS = [
    *COLUMNS, "candidates", "correct_choice", "question_id", "video_id", "video_path", "duration",
    "subtitle_path", "starting_timestamp_for_subtitles", "q_uid", "option", "option 0", "type",
    "question_type", "time_reference", "video_info", "Options", "Answer", "Question", "video ID",
    "right_answer", "clue_intervals", "video_uid", "option0", "option1",
]  # fmt: skip


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", READERS)
def test_hostile_benchmarks(tmp_path: Path, name: str, n: int) -> None:
    rng = np.random.default_rng(2)
    path, spec = tmp_path / READERS[name], f"{name}:{tmp_path}"
    split = "val" if name in ("longvideobench", "egoschema") else ""
    for number in range(n // 32):
        made = []
        for _ in range(2):
            columns = rng.choice(THEIRS, size=12, replace=False)
            made.append({str(c): HOSTILE[int(rng.integers(len(HOSTILE)))] for c in columns})
        path.write_bytes((as_csv if path.suffix == ".csv" else as_json)(made, rng))
        tried(lambda n=number: load_dataset(spec, split, skip_invalid=n % 2 == 0))  # type: ignore[misc]
