"""Each benchmark from a folder like the published one. Both copies give the same questions."""

import json
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pysubs2")

from longvideo_env import Dataset, load_dataset
from longvideo_env.datasets.finding import reader_names
from longvideo_env.datasets.readers.common import split_question
from longvideo_env.errors import DatasetNotFoundError, InvalidRowError

CASES = Path(__file__).parents[2] / "data" / "cases" / "questions"
SRT = "1\n00:00:02,000 --> 00:00:04,000\nfirst\n\n2\n00:01:10,000 --> 00:01:12,000\nsecond\n"


def put(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return folder


def parquet(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    pd = pytest.importorskip("pandas")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)
    return folder


def asked(dataset: Dataset) -> list[tuple[Any, ...]]:
    return [
        (t.qid, t.question.text, t.question.options, t.gold.answer, t.gold.clues) for t in dataset
    ]


def test_there_is_a_reader_for_each() -> None:
    assert set(reader_names()) == {
        "cgbench", "egoschema", "longvideobench", "lvbench", "mlvu", "nextqa", "videoholmes",
        "videomme",
    }  # fmt: skip


MME = [
    {
        "video_id": f"00{v}", "videoID": f"vid-{v}", "question_id": f"00{v}-{q}",
        "duration": "short", "domain": "Knowledge", "sub_category": "Law", "task_type": "OCR",
        "question": f"What {q}?", "options": ["A. x", "B. y", "C. z", "D. All of the above."],
        "answer": "D",
    }
    for v in (1, 2, 3)
    for q in (1, 2, 3)
]  # fmt: skip


def test_videomme_hub_table_json_and_tsv_give_the_same(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    hub = parquet(tmp_path / "hub", "videomme/test-00000-of-00001.parquet", MME)
    plain = put(tmp_path / "json", "videomme.json", MME)
    kit = tmp_path / "kit"
    kit.mkdir()
    frame = pd.DataFrame(MME).rename(columns={"videoID": "video", "options": "candidates"})
    frame = frame.drop(columns=["video_id", "question_id"])
    frame.to_csv(kit / "Video-MME.tsv", sep="\t", index=False)
    read = [load_dataset(f"videomme:{folder}") for folder in (hub, plain, kit)]
    assert asked(read[0]) == asked(read[1]) == asked(read[2])
    facts = dict(read[2][0].question.facts)
    assert (facts["duration"], facts["domain"], facts["subtitles"]) == ("short", "Knowledge", "no")


@pytest.mark.parametrize("kind", ["folder", "zip", "subtitles"])
def test_subtitles_unpacked_or_not_and_none_that_stops(tmp_path: Path, kind: str) -> None:
    put(tmp_path, "videomme.json", MME)
    put(tmp_path, "made/vid-1.srt", SRT)
    (tmp_path / "made" / "vid-2.srt").write_bytes(b"\xff\xfe\x00\x00\x81 no subtitles")
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "subtitle.zip", "w") as archive:
            for path in (tmp_path / "made").iterdir():
                archive.write(path, f"subtitle/{path.name}")
    else:
        (tmp_path / "made").rename(tmp_path / ("subtitle" if kind == "folder" else kind))
    dataset = load_dataset(f"videomme:{tmp_path}", "test")
    assert len(dataset) == 9
    (line,) = dataset.coverage.lines()
    assert line.startswith("subtitles: 1 of 3 videos; 1 have none, 1 could not be read: vid-2.srt")
    assert dataset.videos["vid-1"]["vid-1@01:00"].subtitles[0].text == "second"


LVB = [
    {
        "id": "v_0", "video_id": "@user-1_v", "video_path": "@user-1_v.mp4", "question": "Then?",
        "duration": 100.0, "duration_group": 60, "question_category": "T3O", "correct_choice": 1,
        "subtitle_path": "@user-1_v_en.json", "starting_timestamp_for_subtitles": 10.0,
    }
]  # fmt: skip


def test_longvideobench_json_and_parquet_give_the_same(tmp_path: Path) -> None:
    options = ["yes", "no", "maybe"]
    own = put(tmp_path / "own", "lvb_val.json", [{**LVB[0], "candidates": options}])
    flat = {f"option{i}": (*options, "N/A", "N/A")[i] for i in range(5)}
    hub = parquet(tmp_path / "hub", "validation-00000-of-00001.parquet", [{**LVB[0], **flat}])
    parquet(hub, "test-00000-of-00001.parquet", [{**LVB[0], **flat, "correct_choice": -1}])
    lines = [{"start": "00:00:15.500", "end": "00:00:18.000", "line": "hello"}]
    put(own, "subtitles/@user-1_v_en.json", lines)
    with tarfile.open(hub / "subtitles.tar", "w") as archive:
        archive.add(own / "subtitles", "subtitles")
    read = [load_dataset(f"longvideobench:{folder}", "val") for folder in (own, hub)]
    assert asked(read[0]) == asked(read[1])
    assert read[0][0].question.options == tuple(options)
    for dataset in read:
        (line,) = dataset.video(dataset[0]).clips[0].subtitles
        assert (line.text, line.start_s) == ("hello", 5.5)
    assert load_dataset(f"longvideobench:{hub}", "test")[0].gold.answer is None
    put(own, "subtitles/@user-1_v_en.json", "[]")
    assert load_dataset(f"longvideobench:{own}", "val").coverage.lines() == [
        "subtitles: none of 1 videos"
    ]


def test_egoschema_repository_and_hub_give_the_same(tmp_path: Path) -> None:
    options = [f"C does {i}" for i in range(5)]
    rows = [{"q_uid": q, "question": "What?", **{f"option {i}": o for i, o in enumerate(options)}}
            for q in ("aa-1", "bb-2")]  # fmt: skip
    own = put(tmp_path / "own", "questions.json", rows)
    put(own, "subset_answers.json", {"bb-2": 4})
    labelled = [f"{'ABCDE'[i]}. {option}" for i, option in enumerate(options)]
    hub_rows = [{"question_idx": str(i), "video_idx": q, "question": "What?", "option": labelled,
                 "answer": a}
                for i, (q, a) in enumerate((("aa-1", None), ("bb-2", "4")))]  # fmt: skip
    hub = parquet(tmp_path / "hub", "Subset/test-00000-of-00001.parquet", hub_rows[1:])
    parquet(hub, "GENERATION/test-00000-of-00001.parquet", hub_rows)
    for split in ("val", "test"):
        read = [load_dataset(f"egoschema:{folder}", split) for folder in (own, hub)]
        assert asked(read[0]) == asked(read[1])
    put(own, "captions.json", "[]")
    assert "captions.json" in load_dataset(f"egoschema:{own}", "val").coverage.lines()[-1]


def test_nextqa(tmp_path: Path) -> None:
    (tmp_path / "dataset" / "nextqa").mkdir(parents=True)
    shutil.copy(CASES / "nextqa_val.csv", tmp_path / "dataset" / "nextqa" / "val.csv")
    dataset = load_dataset(f"nextqa:{tmp_path}")
    assert len(dataset) == len(set(dataset.qids)) == 8
    assert dataset.coverage.notes == {"with two equal options (both count as right)": 1}
    assert {t.question.show for t in dataset} == {"causal", "temporal", "descriptive"}
    assert len(load_dataset(CASES / "nextqa_val.csv")) == 8  # also as your own table
    text = "video,frame_count,width,height,question,answer,qid,type\n1,2,3,4,why?,to dance,0,CW\n"
    put(tmp_path / "oe", "val.csv", text)
    (task,) = load_dataset(f"nextqa:{tmp_path}/oe")
    assert (task.question.options, task.gold.text, task.gold.answer) == ((), "to dance", None)


def test_mlvu(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    shutil.copy(CASES / "mlvu_plotQA.json", tmp_path / "json" / "1_plotQA.json")
    row = {
        "video": "a.mp4",
        "duration": 9,
        "question": "Why?",
        "answer": "x",
        "candidates": ["x", "y"],
    }
    put(tmp_path, "json/4_count.json", [{**row, "question_type": "count"}])
    put(tmp_path, "json/9_summary.json", [{"video": "a.mp4", "duration": 9, "question": "Tell.",
        "answer": "A man walks.", "question_type": "summary"}])  # fmt: skip
    dataset = load_dataset(f"mlvu:{tmp_path}")
    assert [task.gold.answer for task in dataset] == [0, 1, 0]
    assert dataset[1].gold.twins == (2,)
    assert [dict(t.question.facts)["task_type"] for t in dataset] == ["plotQA", "plotQA", "count"]
    (task,) = load_dataset(f"mlvu:{tmp_path}", "generation")
    assert (task.question.options, task.gold.text) == ((), "A man walks.")
    hub = put(tmp_path / "hub", "mlvu_dev.json", [{"video_name": "a.mp4", "task_type": "count",
        "question": "Why?\n(A) x\n(B) y", "answer": "A"}])  # fmt: skip
    (task,) = load_dataset(f"mlvu:{hub}")
    assert (task.question.text, task.question.options, task.gold.answer) == ("Why?", ("x", "y"), 0)
    with pytest.raises(DatasetNotFoundError, match="one file per task"):
        load_dataset(f"mlvu:{tmp_path / 'json' / '..' / 'hub'}", "generation")


def test_mlvu_with_the_faults_of_its_published_files(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "duration": 9, "question_type": "count", "question": "How many?"}
    put(tmp_path, "json/4_count.json", [
        {**row, "candidates": ["1", "3", "5", "2"], "answer": "2"},
        {**row, "candidates": ["", "one", "none", ""], "answer": "one"},
        {**row, "candidates": ["2", "5", "10", ""], "answer": ""},
        {**row, "candidates": ["a drone", "a kite"], "answer": "a flying drone"},
        {**row, "question": "", "candidates": ["", "", "", ""], "answer": ""},
    ])  # fmt: skip
    put(tmp_path, "json/8_sub_scene.json", [{"video": "a.mp4", "duration": 9, "question": "Why?",
        "answer": "It rains.", "question_type": "subPlot", "scoring_points": "x"}])  # fmt: skip
    dataset = load_dataset(f"mlvu:{tmp_path}", "dev")
    assert [(task.qid, task.gold.answer) for task in dataset] == [
        ("count_0", 3),
        ("count_1", 1),
        ("count_2", 3),
    ]
    assert dataset[1].question.options == ("(no text)", "one", "none", "(no text)")
    (line, _) = dataset.coverage.lines()
    assert line.startswith("questions: 3 of 5 read; left out: 1 (expected the text of an option")
    (open_ended,) = load_dataset(f"mlvu:{tmp_path}", "generation")
    assert (open_ended.question.options, open_ended.gold.text) == ((), "It rains.")


def test_lvbench(tmp_path: Path) -> None:
    film = {
        "key": "Cm7",
        "video_info": {"duration_minutes": 30},
        "qa": [
            {"uid": "6", "question": "What year?\n(A) 1636\n(B) 1366\n(C) 1363\n(D) 1633",
             "answer": "D", "question_type": ["key information retrieval", "reasoning"],
             "time_reference": "01:15-01:19"},
            {"uid": "7", "question": "Who?\n(A) x\n(B) y", "answer": "A", "question_type": [],
             "time_reference": "soon"},
        ],
    }  # fmt: skip
    put(tmp_path, "data/video_info.meta.jsonl", json.dumps(film))
    first, second = load_dataset(f"lvbench:{tmp_path}")
    assert first.question.text == "What year?"
    assert first.question.options == ("1636", "1366", "1363", "1633")
    assert (first.gold.answer, first.gold.clip_id, first.gold.span) == (3, "Cm7@01:00", (15, 19))
    assert [value for _, value in first.question.facts] == film["qa"][0]["question_type"]  # type: ignore[index]
    assert second.gold.clip_id is None


def test_videoholmes(tmp_path: Path) -> None:
    row = {"video ID": "v1", "Question ID": 3, "Question Type": "SR", "Question": "Who?",
           "Options": {"A": "x", "B": "y", "C": "z"}, "Answer": "B"}  # fmt: skip
    put(tmp_path, "test_Video-Holmes.json", [row])
    (task,) = load_dataset(f"videoholmes:{tmp_path}")
    assert (task.qid, task.gold.answer, task.question.show) == (3, 1, "SR")
    put(tmp_path, "test_Video-Holmes.json", [row, {**row, "video ID": "v2"}])
    assert [task.qid for task in load_dataset(f"videoholmes:{tmp_path}")] == ["v1_3", "v2_3"]
    put(tmp_path, "test_Video-Holmes.json", [{**row, "Answer": "F"}, {**row, "Options": None}])
    with pytest.raises(
        Exception, match=r"in 'Answer' as a label .* with another fault .*'Options'"
    ):
        load_dataset(f"videoholmes:{tmp_path}")


def test_cgbench_finds_its_own_folder_of_subtitles(tmp_path: Path) -> None:
    row = {"qid": 5, "video_uid": "v", "question": "?", "choices": list("abcdefghijklmn"),
           "right_answer": "N", "clue_intervals": [[1, 2]], "duration": 100,
           "domain": "x"}  # fmt: skip
    parquet(tmp_path, "cg-bench-mini/train-00000-of-00001.parquet", [row])
    put(tmp_path, "cg_subtitles/v.srt", SRT)
    (task,) = (dataset := load_dataset(f"cgbench:{tmp_path}", "mini"))
    assert (task.gold.answer, task.gold.span) == (13, (1, 2))
    assert dataset.coverage.lines() == []
    reversed_ = {**row, "clue_intervals": [[9, 2]]}
    put(tmp_path, "cgbench.json", [reversed_])
    with pytest.raises(InvalidRowError, match=r"in 'clue_intervals', got \[9, 2\]"):
        load_dataset(f"cgbench:{tmp_path}", "test")


def test_videomme_options_that_point_at_others(tmp_path: Path) -> None:
    shutil.copy(CASES / "videomme_none_of_the_above.json", tmp_path / "videomme.json")
    first, second = load_dataset(f"videomme:{tmp_path}")
    assert first.question.options[3] == "All of the above."
    assert second.question.options[2:] == ("Both a0 and a1.", "Neither a0 nor a1.")


def test_options_inside_a_question() -> None:
    assert split_question("A. Smith says?\n(A) x y\n(B) z") == ("A. Smith says?", ["x y", "z"])
    assert split_question("Why?\nOptions:\nA. x\nB. y\n") == ("Why?", ["x", "y"])
    assert split_question("Why?") == ("Why?", [])
    assert split_question(None) == (None, [])
