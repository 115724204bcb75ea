import base64
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("openai")
pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))

from fake_server import completion, error, running

from eval.asked_once.lenient_answer import read_reply
from eval.baseline import main

EMBEDDED = Path(__file__).parents[2] / "longvideo_env" / "datasets" / "embedded"


def run(server, out, *more, level="clip"):
    return main(
        [
            "--questions-path", str(EMBEDDED / "LongTVQA_plus_val.json"),
            "--subs-path", str(EMBEDDED / f"LongTVQA_plus_subtitle_{level}_level.json"),
            "--model", f"m@{server.url}", "--threads", "4",
            "--output-filename", str(out), *more,
        ]
    )  # fmt: skip


def result(out):
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("level", ["clip", "episode"])
def test_answers_belong_to_their_questions_and_misparsed_ones_count_apart(tmp_path, level):
    out = tmp_path / "baseline.json"
    replies = ["<answer>a1</answer>", "no idea", "a1 or a2", "<answer>a9</answer>"]
    with running(lambda body, n: completion(replies[n % 4])) as server:
        assert run(server, out, "--mode", "subtitles", level=level) == 0
    found = result(out)
    numbers, results = found["metadata"], found["results"]
    assert found["total"] == numbers["n_questions"] == len(server.bodies) == len(results)
    assert numbers["n_answered"] + numbers["n_misparsed"] == found["total"]
    assert numbers["n_misparsed"] >= found["total"] // 2
    assert {r["final_answer"] for r in results} == {"a1", "unknown"}
    answered = [r["correct"] for r in results if r["status"] == "answered"]
    assert numbers["accuracy_parsed"] == sum(answered) / len(answered)
    assert numbers["accuracy"] == sum(answered) / found["total"]
    rows = json.loads((EMBEDDED / "LongTVQA_plus_val.json").read_text(encoding="utf-8"))
    assert [r["qid"] for r in results] == [row["qid"] for row in rows]


def test_frames_of_the_whole_video_are_sent(tmp_path):
    out = tmp_path / "baseline.json"
    frames = ("--base-frame-dir", str(EMBEDDED / "frames"), "--frames", "5")
    with running(lambda body, n: completion("<answer>a0</answer>")) as server:
        assert run(server, out, *frames, "--limit", "2") == 0
    content = server.bodies[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url"] * 5 + ["text"]
    assert "5 frames" in content[-1]["text"]
    assert result(out)["results"][0]["details"]["n_frames"] == 5


def test_a_run_that_failed_in_part_resumes_with_what_is_missing(tmp_path):
    out = tmp_path / "baseline.json"
    args = ("--mode", "subtitles")
    with running(lambda b, n: error(401) if n % 2 else completion("<answer>a0</answer>")) as server:
        assert run(server, out, *args) == 3
        failed = result(out)["metadata"]["n_failed"]
        assert failed > 0
        partial = out.with_name(out.name + ".partial.jsonl")
        partial.write_bytes(partial.read_bytes() + b'{"qid": 1, "sta')  # torn by a crash
    # Another port is another model: the answers are not mixed.
    with running(lambda body, n: completion("<answer>a0</answer>")) as other:
        assert run(other, out, *args) == 1
        text = partial.read_text(encoding="utf-8").replace(server.url, other.url)
        partial.write_text(text, encoding="utf-8")
        assert run(other, out, *args) == 0
    assert len(other.bodies) == failed
    assert result(out)["metadata"]["n_failed"] == 0


def test_answers_to_other_questions_are_not_mixed(tmp_path, capsys):
    out, copy = tmp_path / "baseline.json", tmp_path / "LongTVQA_plus_val.json"
    rows = json.loads((EMBEDDED / copy.name).read_text(encoding="utf-8"))
    args = ("--mode", "subtitles", "--questions-path", str(copy))
    with running(lambda body, n: completion("<answer>a0</answer>")) as server:
        for text, code in ((rows[0]["q"], 0), ("Who sings?", 1)):
            rows[0]["q"] = text
            copy.write_text(json.dumps(rows), encoding="utf-8")
            assert run(server, out, *args) == code
        assert "Changed since then: the questions. Fix:" in capsys.readouterr().err
        assert run(server, out, *args, "--overwrite") == 0


def test_bad_input_is_one_line(tmp_path, capsys):
    with running(lambda body, n: completion("x")) as server:
        assert run(server, tmp_path / "b.json") == 2
        assert "needs --base-frame-dir" in capsys.readouterr().err
        assert run(server, tmp_path / "b.json", "--mode", "subtitles", "--threads", "0") == 2


OPTIONS = ("Ann.", "A man walks in.", "3.5 hours", "At 10:30", "The red mug")


@pytest.mark.parametrize(
    ("text", "choice", "rule"),
    [
        ("<answer>a3</answer>", 3, "label"),
        ("<think><answer>a1</answer></think> So <answer>a2</answer>", 2, "label"),
        (r"<answer>$\boxed{a4}$</answer>", 4, "label"),
        ("<answer>a1: A man walks in.</answer>", 1, "label"),
        ("<answer>the red MUG!</answer>", 4, "option"),
        ("<answer>3.5 hours</answer>", 2, "option"),
        ("<answer>A man walks in</answer>", 1, "option"),
        ("<answer>a3. He says so, not a1.</answer>", 3, "leading"),
        ("<answer>3</answer>", 3, "leading"),
        ("<ANSWER>(D) At 10:30</ANSWER>", 3, "leading"),
        ("<answer>b</answer>", 1, "leading"),
        ("<answer>Option C.</answer>", 2, "leading"),
        ("Not a1. So the answer is B because he says so.", 1, "sentence"),
        ("**Answer:** a4", 4, "sentence"),
        ("The final answer is: **(D)**", 3, "sentence"),
        (r"Thus \boxed{C}.", 2, "sentence"),
        ("Option E is correct", 4, "sentence"),
        ("a3", 3, "whole"),
        ("Both are there.\n\nC", 2, "whole"),
        ("<answer>a3 or a1</answer>", None, ""),
        ("<answer>A, B</answer>", None, ""),
        ("<answer>A and C</answer>", None, ""),
        ("<answer>a1</answer><answer>a2</answer>", None, ""),
        ("<answer>A man runs</answer>", None, ""),
        ("<answer>3.7 hours</answer>", None, ""),
        ("<answer>10:45</answer>", None, ""),
        ("<answer>a9</answer>", None, ""),
        ("<answer>F</answer>", None, ""),
        ("The answer is I do not know", None, ""),
        ("The answer is 3 people", None, ""),
        ("The answer is A man", None, ""),
        ("The answer is a man", None, ""),
        ("I cannot say.", None, ""),
        ("", None, ""),
    ],
)
def test_which_option_a_reply_names_and_by_which_rule(text, choice, rule):
    assert read_reply(text, OPTIONS) == (choice, rule)


@given(st.text(max_size=200))
def test_any_reply_is_read_without_an_error(text):
    choice, rule = read_reply(text, OPTIONS)
    assert (choice is None) == (rule == "")
    assert choice is None or 0 <= choice < len(OPTIONS)


def published(tmp_path, kind):
    """The embedded subtitles in the formats that TVQA publishes."""
    file = EMBEDDED / "LongTVQA_plus_subtitle_clip_level.json"
    clips = {
        clip: [line.strip() for line in text.split("<eos>") if line.strip()]
        for clip, text in json.loads(file.read_text(encoding="utf-8")).items()
    }
    if kind == "srt":
        for clip, lines in clips.items():
            path = tmp_path / "srt" / clip[:6] / f"{clip}.srt"
            path.parent.mkdir(parents=True, exist_ok=True)
            cues = [
                f"{i + 1}\n00:00:{i:02d},000 --> 00:00:{i:02d},900\n{line}\n"
                for i, line in enumerate(lines)
            ]
            path.write_text("\n".join(cues), encoding="utf-8")
        (tmp_path / "srt" / "readme.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHi\n")
        return tmp_path / "srt"
    rows = [
        {"vid_name": clip, "sub": [
            {"text": line, "start": i + 0.5, "end": i + 1.0} for i, line in enumerate(lines)]}
        for clip, lines in clips.items()
    ]  # fmt: skip
    path = tmp_path / "tvqa_preprocessed_subtitles.jsonl"
    text = json.dumps(rows) if kind == "array" else "\n".join(map(json.dumps, rows))
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "array", "srt"])
def test_subtitles_as_tvqa_publishes_them_give_the_same_prompts(tmp_path, kind, capsys):
    prompts = []
    for subs in (EMBEDDED / "LongTVQA_plus_subtitle_clip_level.json", published(tmp_path, kind)):
        with running(lambda body, n: completion("<answer>B) because</answer>")) as server:
            out = tmp_path / f"{len(prompts)}.json"
            args = ("--mode", "subtitles", "--subs-path", str(subs))
            assert run(server, out, *args) == 0
        prompts.append(sorted(body["messages"][0]["content"] for body in server.bodies))
        numbers = result(out)["metadata"]
        assert numbers["read_by"] == {"leading": numbers["n_answered"]}
    assert prompts[0] == prompts[1]
    text = capsys.readouterr().out
    assert ("1 files name no clip, such as readme.srt" in text) is (kind == "srt")
    parts = [
        prompts[0][0].index(part) for part in ("Question:", "Options:", "Subtitles:", "Answer")
    ]
    assert parts == sorted(parts)


def test_subtitles_that_are_wrong_are_named_or_counted(tmp_path, capsys):
    path = published(tmp_path, "jsonl")
    path.write_text(
        path.read_text(encoding="utf-8") + '\n{"vid_name": "x", "sub": [{"text": 1}]}\n',
        encoding="utf-8",
    )
    args = ("--mode", "subtitles", "--subs-path", str(path))
    with running(lambda body, n: completion("<answer>a0</answer>")) as server:
        assert run(server, tmp_path / "a.json", *args) == 1
        assert path.name in capsys.readouterr().err
        assert run(server, tmp_path / "a.json", *args, "--skip-invalid") == 0
        assert "1 rows left out" in capsys.readouterr().out
        (tmp_path / "empty").mkdir()
        args = ("--mode", "subtitles", "--subs-path", str(tmp_path / "empty"))
        assert run(server, tmp_path / "b.json", *args) == 1
        assert "named after clips" in capsys.readouterr().err


def test_one_frame_from_the_middle_of_each_clip(tmp_path):
    out = tmp_path / "baseline.json"
    frames = ("--base-frame-dir", str(EMBEDDED / "frames"), "--limit", "1")
    with running(lambda body, n: completion("<answer>a0</answer>")) as server:
        assert run(server, out, *frames) == 0
    content = server.bodies[0]["messages"][0]["content"]
    video = result(out)["results"][0]["vid"]
    clips = sorted((EMBEDDED / "frames" / "bbt_frames").glob(f"{video}_*"))
    sent = [base64.b64decode(p["image_url"]["url"].partition(",")[2]) for p in content[:-1]]
    assert sent == [(clip / "00061.jpg").read_bytes() for clip in clips]  # of 1, 61 and 121
