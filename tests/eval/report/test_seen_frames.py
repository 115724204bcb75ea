"""The report shows the frames that the master saw. Readers of the run do not need the frames."""

import gzip
import json
import re
import shutil
import sys
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PIL")
sys.path.insert(0, str(Path(__file__).parents[2]))

from seen_world import make_seen_world

import longvideo_env as lv
from eval.bundle.packing import main as bundle
from eval.bundle.verify import main as verify
from eval.rescore import main as rescore
from longvideo_env.commands.doors.export_command import main as export


def see(messages: list[dict[str, Any]], frames: list[list[Any]]) -> str:
    """Calls `ground`, then answers by the length of its input."""
    said = sum(message["role"] == "assistant" for message in messages)
    answer = f"<answer>a{len(messages[1]['content']) % 5}</answer>"
    return "<reasoning>.</reasoning>" + (answer if said else "<request_grounding/>")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset, and the folder of a run on it."""
    folder = tmp_path_factory.mktemp("seen")
    world = make_seen_world(folder / "world")
    run = lv.evaluate(
        see, dataset=str(world), split="test", frames=3, out=folder / "run", progress=False
    )
    return world, run.folder


def block(page: Path, name: str) -> Any:
    found = re.search(rf'data-block="{name}">([^<]*)<', page.read_text(encoding="utf-8"))
    assert found, name
    return json.loads(gzip.decompress(b64decode(found[1])))


@pytest.mark.slow
def test_the_report_shows_what_the_master_saw(
    played: tuple[Path, Path], make_report: Callable[..., Path]
) -> None:
    page = make_report(played[1])
    trace = block(page, "chunk-0")[0]
    assert (trace["seen"]["total"], len(trace["seen"]["frames"])) == (3, 3)
    place, time_s, clip = trace["seen"]["frames"][1]
    assert [clip] == trace["opened"]
    task = lv.load_dataset(str(played[0]), "test").tasks[0]
    video = lv.load_dataset(str(played[0]), "test").videos[task.question.video_id]
    assert time_s == video.clip_times(video.clip_ids[clip])[0] + 30
    assert block(page, "frames")[place].startswith("data:image/jpeg;base64,")
    assert trace["turns"][0]["seen"]["total"] == 3
    assert "seen" not in trace["turns"][1]


def test_without_the_files_it_says_how_many_there_were(
    played: tuple[Path, Path], make_report: Callable[..., Path], tmp_path: Path
) -> None:
    run = shutil.copytree(played[1], tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"dataset": str(tmp_path / "gone")}))
    seen = block(make_report(run), "chunk-0")[0]["seen"]
    assert seen == {"seen": True, "total": 3, "frames": []}


def test_rescoring_needs_no_frames(
    played: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(played[1], tmp_path / "run")
    frames = played[0] / "frames"
    frames.rename(tmp_path / "away")
    try:
        assert rescore([str(run)]) == 0
    finally:
        (tmp_path / "away").rename(frames)
    assert "changed: nothing" in capsys.readouterr().out


def test_a_bundle_verifies(
    played: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bundle([str(played[1]), "--out", str(tmp_path / "b.zip")]) == 0
    assert verify([str(tmp_path / "b.zip"), "--replay"]) == 0
    said = capsys.readouterr().out
    assert "0 do not" in said


def test_an_export_leaves_such_episodes_out_and_says_so(
    played: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = tmp_path / "right.jsonl"
    assert export([str(played[1]), "--to", "openai", "--out", str(right)]) == 3
    text = "".join(capsys.readouterr())
    assert "its master saw frames" in text
