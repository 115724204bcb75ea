import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("openai")
pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))

from fake_server import completion, error, running

from eval.baseline import main, parse_answer

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
        assert run(other, out, *args) == 2
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
        for text, code in ((rows[0]["q"], 0), ("Who sings?", 2)):
            rows[0]["q"] = text
            copy.write_text(json.dumps(rows), encoding="utf-8")
            assert run(server, out, *args) == code
        assert "What has changed since: the questions. Fix:" in capsys.readouterr().err
        assert run(server, out, *args, "--overwrite") == 0


def test_bad_input_is_one_line(tmp_path, capsys):
    with running(lambda body, n: completion("x")) as server:
        assert run(server, tmp_path / "b.json") == 2
        assert "needs --base-frame-dir" in capsys.readouterr().err
        assert run(server, tmp_path / "b.json", "--mode", "subtitles", "--threads", "0") == 2


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("<answer>a3</answer>", 3),
        ("<think><answer>a1</answer></think> So <answer>a2</answer>", 2),
        ("<answer>a3 or a1</answer>", None),
        ("<answer>a1</answer><answer>a2</answer>", None),
        ("a3", None),
        ("<answer>3</answer>", None),
    ],
)
def test_which_option_a_reply_names(text, choice):
    assert parse_answer(text, 5) == choice
