"""Every result names the subtitle files that were read only in part."""

import json

import longvideo_env as lv
from eval.report.folders import read_sources

DAMAGED = "1\n00:00:01,000 --> 00:00:02,000\na red car\n\n2\n00:00:0x --> 00:00:05,000\nlost\n"


def test_lines_that_were_not_read_are_said_under_the_result_and_on_the_page(tmp_path):
    (tmp_path / "film.srt").write_text(DAMAGED, encoding="utf-8")
    table = tmp_path / "questions.jsonl"
    row = {
        "question": "What colour is the car?",
        "options": ["red", "blue"],
        "answer": "red",
        "video": "film",
        "subtitles": "film.srt",
    }
    table.write_text(json.dumps(row) + "\n", encoding="utf-8")
    dataset = lv.load_dataset(str(table))
    (line,) = dataset.coverage.lines()
    assert line.startswith("subtitles: 1 of 1 videos; 1 read in part: film")
    assert "1 line read, 1 not: line 6" in line
    result = lv.evaluate("random", dataset=str(table), split="all", vision="none",
                         out=tmp_path / "runs")  # fmt: skip
    assert result.summary["coverage"]["partly"]
    (source,) = read_sources([result.folder], None, 100)
    assert source.notes == (line,)
