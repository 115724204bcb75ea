import json
import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.bundle.run_table import main as paper_table
from eval.compare import main as compare_runs
from eval.metrics.pairs import compare, match, read_run
from eval.output.comparisons import format_p, format_signed_interval
from eval.output.formatting import format_interval
from eval.report.asked import kind_of
from eval.report.command import main
from eval.report.folders import read_sources
from eval.report.page import SCRIPTS, pack, render
from eval.report.training import advantages, group_advantages
from eval.run_policy import main as evaluate
from longvideo_env.errors import SpecError, TrajectoryError

MakeReport = Callable[..., Path]
ReadBlock = Callable[[Path, str], Any]
STATIC = Path(__file__).parents[3] / "eval" / "report" / "static"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \u202eabc \ud800"


def test_a_page_holds_every_episode_and_the_numbers_of_the_summaries(
    runs: Path, make_report: MakeReport, capsys: pytest.CaptureFixture[str], read_block: ReadBlock
) -> None:
    page = make_report(runs)
    index = read_block(page, "index")
    folders = sorted(runs.iterdir())
    assert [run["name"] for run in index["runs"]] == ["random", "scripted:ground-look-answer"]
    for run, folder in zip(index["runs"], folders, strict=True):
        saved = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for key, value in run["summary"].items():
            assert value == saved[key], key
        assert run["saved"]["wall_s"] == saved["wall_s"]
    numbers = compare(match(*map(read_run, folders)))
    assert len(index["episodes"]) == 2 * numbers["n"] >= 40
    for key in ("n", "a_only", "b_only", "p", "difference"):
        assert index["pairs"][0][key] == numbers[key]
    assert f"2 runs, {2 * numbers['n']} episodes" in capsys.readouterr().out


def test_intervals_are_those_that_the_commands_print(
    runs: Path, make_report: MakeReport, read_block: ReadBlock, capsys: pytest.CaptureFixture[str]
) -> None:
    index = read_block(make_report(runs), "index")
    folders = sorted(runs.iterdir())
    for run, folder in zip(index["runs"], folders, strict=True):
        saved = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        kinds = {row["label"]: row["ci"] for row in run["parts"]["question kind"]}
        assert kinds == {
            show.removeprefix("mini:"): group["accuracy_ci95"]
            for show, group in saved["by_show"].items()
        }
    capsys.readouterr()
    assert compare_runs([*map(str, folders)]) == 0
    printed = capsys.readouterr().out
    (pair,) = index["pairs"]
    assert format_signed_interval(pair["difference_ci95"]) in printed
    assert f"p = {format_p(pair['p'])}" in printed
    assert paper_table([str(runs)]) == 0
    table = capsys.readouterr().out
    for run in index["runs"]:
        assert format_interval(run["summary"]["accuracy_ci95"]) in table


def test_times_are_those_of_the_film_and_pictures_lie_along_it(
    film_runs: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    page = make_report(film_runs)
    index, small = read_block(page, "index"), read_block(page, "strip")
    question = index["questions"][0]
    assert question["exact"], "the dataset says where its clips lie"
    assert question["times"][1] == [60.0, 120.0]
    start, end = question["times"][question["clips"].index(question["gold"])]
    assert start <= question["when"][0] < question["when"][1] <= end
    assert [clip for clip, _ in question["strip"]] == list(range(len(question["clips"])))
    assert all(small[image].startswith("data:image/jpeg;base64,") for _, image in question["strip"])
    row = next(row for row in index["episodes"] if row["looks"] and row["q"] == 0)
    trace = read_block(page, "chunk-0")[index["episodes"].index(row)]
    look = next(turn for turn in trace["turns"] if turn.get("frames"))
    for _, at, clip in look["frames"]["frames"]:
        assert clip in look["looked"]
        assert question["times"][clip][0] <= at < question["times"][clip][1]


def test_pictures_are_shared_out_among_videos(
    runs: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    page = make_report(runs, "--max-frames", "6")
    index = read_block(page, "index")
    videos = {question["video"] for question in index["questions"]}
    assert len(read_block(page, "strip")) == min(6, len(videos))
    assert read_block(make_report(runs, "--max-frames", "0"), "strip") == []


def test_parts_add_up_to_the_whole(
    runs: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    for run in read_block(make_report(runs), "index")["runs"]:
        summary = run["summary"]
        for rows in run["parts"].values():
            assert sum(row["n"] for row in rows) == summary["n_scored"]
            right = sum(row["n"] * row["accuracy"] for row in rows)
            assert right == pytest.approx(summary["accuracy"] * summary["n_scored"])
        counts = {str(key): n for key, n in run["histograms"]["turns"] if n}
        assert counts == summary["turn_histogram"]


def test_calibration_tells_needed_from_asked_for(
    runs: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    run = read_block(make_report(runs), "index")["runs"][1]
    rows = {(row["tool"], row["needed"]): row for row in run["calibration"]}
    assert set(rows) >= {("grounding", True), ("looking", True), ("looking", False)}
    assert rows["grounding", True]["n"] == run["summary"]["behaviour"]["n_first_wrong"]
    assert all(row["asked"] == 1.0 for row in rows.values()), "the script asks for everything"


def test_a_trace_tells_what_happened(
    runs: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    page = make_report(runs)
    index = read_block(page, "index")
    place = next(i for i, row in enumerate(index["episodes"]) if row["run"] == 1)
    row, trace = index["episodes"][place], read_block(page, "chunk-0")[place]
    ground, look, answer = trace["turns"]
    question = index["questions"][row["q"]]
    assert ground["tool"]["value"] == question["clips"][ground["shown"][0]]
    assert look["looked"] == ground["shown"]
    assert look["tool"]["agent"] == "captions"
    assert ground["words"] == "<reasoning>Next step: ground.</reasoning>"
    assert "<request_grounding" not in ground["words"]
    assert answer["arg"] == f"a{row['choice']}"
    assert question["gold"] in question["clips"]
    assert row["correct"] == (row["choice"] == question["answer"])
    assert trace["opened"][0] == row["visited"][0]


def test_a_trace_of_calls_shows_thoughts_beside_the_action(
    tmp_path: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    flags = ["--policy", "scripted:ground-look-answer", "--protocol", "functions"]
    assert evaluate([*flags, "--dataset", "embedded", "--limit", "1", "--out", str(tmp_path)]) == 0
    (ground, *_) = read_block(make_report(tmp_path), "chunk-0")[0]["turns"]
    assert (ground["words"], ground["action"]) == ("Next step: ground.", "ground")
    assert json.loads(ground["written"])["tool_calls"][0]["function"]["name"] == "ground"


def test_frames_of_the_clips_looked_at_are_embedded(
    runs: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    page = make_report(runs, "--max-frames", "5")
    images = read_block(page, "frames")
    assert len(images) == 5
    assert all(image.startswith("data:image/jpeg;base64,") for image in images)
    assert max(map(len, images)) < 40_000
    assert read_block(page, "index")["frames_left_out"] > 0
    assert read_block(make_report(runs, "--max-frames", "0"), "frames") == []


def test_equal_runs_give_equal_bytes(runs: Path, make_report: MakeReport) -> None:
    first = make_report(runs).read_bytes()
    assert make_report(runs).read_bytes() == first


def test_without_the_dataset_questions_come_from_the_prompts(
    runs: Path,
    make_report: MakeReport,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    read_block: ReadBlock,
) -> None:
    whole = read_block(make_report(runs), "index")
    page = make_report(runs, "--dataset", tmp_path / "gone")
    index = read_block(page, "index")
    assert "cannot be read" in capsys.readouterr().err
    for known, bare in zip(whole["episodes"], index["episodes"], strict=True):
        mine, theirs = whole["questions"][known["q"]], index["questions"][bare["q"]]
        assert (mine["text"], mine["options"]) == (theirs["text"], theirs["options"])
        assert theirs["answer"] is None


def test_questions_of_another_dataset_are_not_taken_for_these(
    runs: Path, make_report: MakeReport, capsys: pytest.CaptureFixture[str], read_block: ReadBlock
) -> None:
    page = make_report(runs, "--dataset", "mini:videos=12,difficulty=0.9", "--split", "train")
    assert "that are not in the dataset" in capsys.readouterr().err
    texts = [question["text"] for question in read_block(page, "index")["questions"]]
    assert texts == [q["text"] for q in read_block(make_report(runs), "index")["questions"]]


def test_a_training_run_has_groups_advantages_and_curves(
    training: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    index = read_block(make_report(training), "index")
    (run,) = index["runs"]
    assert [step["step"] for step in run["steps"]] == [0, 1]
    group, flat = run["steps"][0]["groups"]
    rows = [index["episodes"][i] for i in group["episodes"]]
    assert [row["sample"] for row in rows] == [0, 1, 2, 3]
    rewards = np.array([1.1, 0.1, 0.1])
    wanted = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    assert [row.get("adv") for row in rows] == pytest.approx(
        [round(wanted[0], 4), round(wanted[1], 4), None, round(wanted[2], 4)]
    )
    assert rows[2]["status"] == "failed"
    assert flat["std"] == pytest.approx(0.0)
    assert run["curves"]["steps"] == [1, 2]
    assert run["curves"]["lines"]["reward"]["raw"] == [0.2, 0.3]
    assert index["questions"][0]["text"] == "what is q1 ?"


def test_rollouts_that_lie_elsewhere_find_the_curves_of_their_run(
    training: Path, tmp_path: Path
) -> None:
    apart = tmp_path / "apart"
    (training / "rollouts").rename(apart)
    for folder, more in ((training, {"rollouts": "../apart"}), (apart, {"run": "../grpo"})):
        text = json.dumps({"dataset": "mini", **more})
        (folder / "environment.json").write_text(text, encoding="utf-8")
    for given in ([training], [apart], [training, apart], [apart, training]):
        (source,) = read_sources(given)
        assert source.name == "grpo"
        assert source.curves is not None
        assert len(source.episodes) == 16
        assert source.config["dataset"] == "mini"


def test_rollouts_are_found_by_their_own_folder_too(training: Path) -> None:
    (source,) = read_sources([training / "rollouts"])
    assert source.name == "grpo"
    assert source.curves is not None
    assert len(source.episodes) == 16


def test_compressed_rollouts_are_read(training: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    plain = read_sources([training])[0].trajectories
    for path in (training / "rollouts").glob("*.jsonl"):
        first, *rest = path.read_bytes().splitlines(keepends=True)
        frames = map(zstandard.ZstdCompressor().compress, (first, b"".join(rest)))
        path.with_name(path.name + ".zst").write_bytes(b"".join(frames))
        path.unlink()
    assert read_sources([training])[0].trajectories == plain


def test_a_file_that_cannot_be_unpacked_is_named(training: Path) -> None:
    pytest.importorskip("zstandard")
    path = training / "rollouts" / "step-000009-rank-000.jsonl.zst"
    path.write_bytes(b"this was never packed")
    with pytest.raises(TrajectoryError, match="step-000009"):
        read_sources([training])


def test_what_the_trainer_notes_of_a_rollout_is_shown(
    training: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    path = training / "rollouts" / "step-000000-rank-001.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["rollout"] = {"step": 0, "rank": 1, "row": 0, "used": False, "unused": "refilled"}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    rows = read_block(make_report(training), "index")["episodes"]
    assert [row.get("unused") for row in rows].count("refilled") == 4


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("What did Leonard say when Penny came in ?", "what"),
        ("When Penny came in, whom did she see ?", "who"),
        ("When did she come ?", "when"),
        ("Is it so ?", "other"),
    ],
)
def test_a_question_has_a_kind(text: str, kind: str) -> None:
    assert kind_of(text, None) == kind
    assert kind_of(text, "mini:say_here") == "say_here"


def test_too_many_rollouts_leave_steps_out_and_say_so(
    training: Path, make_report: MakeReport, read_block: ReadBlock
) -> None:
    (run,) = read_block(make_report(training, "--max-rollouts", "8"), "index")["runs"]
    assert len(run["steps"]) == 1
    assert "1 of 2 training steps" in " ".join(run["notes"])


def test_a_saved_advantage_counts_more_than_a_computed_one(training: Path) -> None:
    path = training / "rollouts" / "step-000000-rank-000.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[1]["advantage"] = 0.75
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (source,) = read_sources([training])
    assert advantages(source.episodes)[1] == 0.75


def test_a_group_of_one_reward_has_no_advantage() -> None:
    assert group_advantages([1.0, 1.0]) == [0.0, 0.0]
    assert group_advantages([None, 1.0]) == [None, 0.0]
    assert group_advantages([None]) == [None]


def test_a_torn_last_line_is_left_out_and_another_is_an_error(training: Path) -> None:
    path = training / "rollouts" / "step-000001-rank-001.jsonl"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-40], encoding="utf-8")
    assert len(read_sources([training])[0].episodes) == 15
    path.write_text(whole[:-40] + "\n" + whole, encoding="utf-8")
    with pytest.raises(TrajectoryError, match="line 4: expected one JSON object"):
        read_sources([training])


def test_bad_input_is_one_clear_line(
    tmp_path: Path, training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "x.html")]
    for bad, code in (
        ([str(tmp_path / "none"), *out], 1),
        ([str(training), "--name", "a", "--name", "b", *out], 2),
        ([str(training), "--max-rollouts", "0", *out], 2),
    ):
        assert main(bad) == code
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert line.startswith("longvideo-env report: ")
    assert main([str(training), "--out", str(training / "metrics.jsonl" / "x.html")]) == 1
    assert "x.html cannot be written: " in capsys.readouterr().err
    with pytest.raises(SpecError, match=r"neither episodes\.jsonl nor"):
        read_sources([tmp_path / "none"])


def test_nothing_from_a_run_can_close_a_tag() -> None:
    page = render(HOSTILE.encode("utf-8", "replace").decode(), {"index": pack([HOSTILE])})
    assert page.count("</script>") == 2, "the block and the script"
    assert "<img" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    allowed = policy[1].replace("&#39;", "'")
    assert "default-src 'none'" in allowed
    assert "http" not in allowed
    assert "unsafe" not in allowed
    for tag in ("style", "script"):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert found
        digest = b64encode(sha256(found[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in allowed


def test_scripts_never_parse_text_as_html_and_never_reach_out() -> None:
    for name in SCRIPTS:
        code = (STATIC / name).read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in code, name
        for word in ("fetch(", "XMLHttpRequest", "WebSocket", "https://", "import("):
            assert word not in code, name
