"""Layers of a dataset: resumed after a kill, with several workers and a list of failures."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parent))

from films import drawn, write_film

from agents.describe import main
from longvideo_env.commands.data.ingest import IngestOptions, ingest
from longvideo_env.commands.data.seeing import FrameJob, merge
from longvideo_env.datasets.layers import Maker
from longvideo_env.datasets.own.ingested import load_videos

SPEC = f"{Path(__file__)}:Shades"
PAUSE_S = float(os.environ.get("TEST_PAUSE_S", "0"))


class Shades:
    """Writes the brightness of a frame. A pause makes it slow enough to be killed."""

    every_s, batch = 1.0, 2
    maker = Maker("captions", "shades", "1", {"of": 256})

    def __init__(self, argument: str = "") -> None:
        del argument

    def read(self, frames: Sequence[Path], /) -> Sequence[Sequence[str]]:
        from PIL import Image

        time.sleep(PAUSE_S)
        found = []
        for path in frames:
            with Image.open(path) as image:
                found.append([f"shade {int(np.asarray(image.convert('L')).mean()) // 16}"])
        return found


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films of ten seconds with ten shades each."""
    root = tmp_path_factory.mktemp("films")
    for name in ("one", "two"):
        pictures = [np.full((36, 64, 3), 25 * i, np.uint8) for i in range(10)]
        film = write_film(root / f"{name}.mp4", pictures, 1.0)
        options = IngestOptions(clip_s=4, fps=1, speech="none")
        ingest(film, root / "data" / name, options=options)
    return root


@pytest.fixture
def data(films: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(films / "data", tmp_path / "data"))


def layers(data: Path) -> dict[str, bytes]:
    return {str(p.relative_to(data)): p.read_bytes() for p in sorted(data.rglob("layers/*"))}


ARGUMENTS = ["--with", SPEC, "--kind", "captions"]


@pytest.mark.slow
def test_a_dataset_is_described_with_any_number_of_workers(data: Path, capsys: Any) -> None:
    other = Path(shutil.copytree(data, data.parent / "other"))
    assert main([str(data), *ARGUMENTS]) == 0
    assert "one: captions: 10 lines from 10 frames (shades)" in capsys.readouterr().out
    assert main([str(other), *ARGUMENTS, "--workers", "2"]) == 0
    assert layers(data) == layers(other)
    assert len(layers(data)) == 2
    (video,) = load_videos(data / "one").values()
    first = video.clips[0].layer("captions")
    assert [line.text for line in first] == ["shade 0", "shade 1", "shade 3", "shade 4"]
    assert [(line.start_s, line.end_s) for line in first[:2]] == [(0, 1), (1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.2, 2.5])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    after_s: float, data: Path, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(data, tmp_path / "whole"))
    assert main([str(whole), *ARGUMENTS]) == 0
    command = [sys.executable, "-m", "longvideo_env.commands.main", "describe", str(data)]
    run = subprocess.Popen(
        [*command, *ARGUMENTS], env={**os.environ, "TEST_PAUSE_S": "0.3"}, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    journals = data / "one" / "layers"
    deadline = time.monotonic() + 60
    while not list(journals.glob("*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(after_s)
    run.send_signal(signal.SIGKILL)
    run.wait(timeout=30)
    (journal,) = data.rglob("layers/*.jsonl")
    journal.write_text(journal.read_text() + '[9, [["half a li')  # as a kill may leave it
    assert main([str(data), *ARGUMENTS]) == 0
    assert layers(data) == layers(whole)


def test_what_is_done_is_not_done_again(data: Path, capsys: Any) -> None:
    assert main([str(data / "one"), *ARGUMENTS]) == 0
    before = layers(data)
    for frame in data.glob("one/frames/*/*.jpg"):
        frame.unlink()
    capsys.readouterr()
    assert main([str(data / "one"), *ARGUMENTS]) == 0
    assert "one: captions: 10 lines (shades); already exists" in capsys.readouterr().out
    assert layers(data) == before


def test_a_bad_frame_is_listed_and_tried_again(data: Path, capsys: Any) -> None:
    whole = Path(shutil.copytree(data, data.parent / "whole"))
    (frame,) = data.glob("two/frames/*_clip_01/00002.jpg")
    good = frame.read_bytes()
    frame.write_bytes(good[:40])
    assert main([str(data), *ARGUMENTS]) == 3
    captured = capsys.readouterr()
    assert "two: captions: 9 lines from 10 frames (shades); 1 clips failed" in captured.out
    assert "describe: two, two_seg01_clip_01: 00002.jpg: truncated" in captured.err
    (layer,) = (data / "two" / "layers").glob("*.json")
    assert list(json.loads(layer.read_text())["failed"]) == ["two_seg01_clip_01"]
    frame.write_bytes(good)
    assert main([str(data), *ARGUMENTS]) == 0
    assert main([str(whole), *ARGUMENTS]) == 0
    assert layers(data) == layers(whole)


def test_a_film_that_fails_is_named_and_the_rest_goes_on(data: Path, capsys: Any) -> None:
    (data / "one" / "subtitles.json").write_text("{")
    assert main([str(data), *ARGUMENTS]) == 3
    captured = capsys.readouterr()
    assert captured.out == "two: captions: 10 lines from 10 frames (shades)\n"
    assert captured.err.startswith("longvideo-env describe: one: ")
    assert "the file is truncated" in captured.err


def test_two_processes_do_not_write_one_folder(data: Path, capsys: Any) -> None:
    from longvideo_env.records.files import hold_folder

    with hold_folder(data / "one", ".layers.lock"):
        assert main([str(data / "one"), *ARGUMENTS]) == 1
    assert "is being written by process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--with", "nobody"], "unknown maker of layers 'nobody'"),
        (["--with", SPEC], "give --kind"),
        (["--with", "rapidocr", "--workers", "0"], "--workers must be at least 1"),
        (["--with", "vlm:"], "expected vlm:MODEL"),
        ([*ARGUMENTS, "--workers", "2", "--ray", "local"], "cannot be combined"),
        ([*ARGUMENTS, "--ray", "local", "--ray-workers", "-1"], "--ray-workers must be 0 or more"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, data: Path, capsys: Any) -> None:
    assert main([str(data), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_text_that_stays_is_one_line() -> None:
    jobs = [FrameJob("c", (Path("x"),), float(i), i + 1.0) for i in range(4)]
    said = [["A"], ["A", "B"], ["B"], ["A"]]
    lines = merge(list(zip(jobs, said, strict=True)))
    assert [(x["text"], x["start_s"], x["end_s"]) for x in lines] == [
        ("A", 0, 2), ("B", 1, 3), ("A", 3, 4)
    ]  # fmt: skip


@pytest.mark.slow
def test_speech_and_vectors_of_a_dataset(
    real_models: Path, whisper_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("faster_whisper")
    recording = real_models / "moonshine_voice" / "assets" / "beckett.wav"
    film = write_film(tmp_path / "films.mp4", [drawn("x")] * 5, 2.0, recording)
    out = tmp_path / "data" / "film"
    ingest(film, out, options=IngestOptions(speech="none", fps=1))
    spec = ["--with", f"whisper:{whisper_folder}"]
    assert main([str(tmp_path / "data"), *spec]) == 3
    assert "expected the film 'films.mp4' with" in capsys.readouterr().err
    assert main([str(tmp_path / "data"), *spec, "--films", str(tmp_path)]) == 0
    assert "film: speech: 6 lines (whisper:model); language en" in capsys.readouterr().out
    assert main([str(tmp_path / "data"), *spec, "--films", str(tmp_path)]) == 0
    assert "speech: 6 lines (whisper:model); already exists" in capsys.readouterr().out
    (video,) = load_videos(out).values()
    assert video.clips[0].subtitles[0].text == "Ever tried."
    assert main([str(tmp_path / "data"), "--with", f"embed:{real_models / 'minilm'}"]) == 0
    assert "film: embed: 7 texts of 1 videos are in the cache" in capsys.readouterr().out
