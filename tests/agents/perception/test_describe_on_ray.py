"""Layers of many films on a real Ray cluster equal those of one machine, after any kill."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parent))

from films import drawn, write_film

from agents.cluster.joining import load_ray
from longvideo_env.commands.data.ingest import IngestOptions, ingest
from longvideo_env.datasets.layers import Maker

# Asked for without importing it: Ray puts a maker of log records of its own in place.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs ray"),
]

NAMES = ("a", "b", "c", "deadly", "e", "f")


class Shades:
    """Writes the brightness of a frame, records each frame that it reads, and dies on some."""

    every_s, batch = 1.0, 2
    maker = Maker("captions", "shades", "1", {})

    def __init__(self, argument: str = "") -> None:
        del argument

    def read(self, frames: Sequence[Path], /) -> Sequence[Sequence[str]]:
        from PIL import Image

        time.sleep(0.2)
        found = []
        for path in frames:
            with open("read.txt", "a") as notes:
                notes.write(f"{path.parent.name} {path.name}\n")
            if Path("deadly.txt").exists() and path.parent.name.startswith("deadly"):
                os._exit(1)
            with Image.open(path) as image:
                found.append([f"shade {int(np.asarray(image.convert('L')).mean()) // 16}"])
        return found


SHADES = ("--with", f"{Path(__file__)}:Shades", "--kind", "captions")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    load_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "node_ip_address": "127.0.0.1", "include_dashboard": False,
            "object_store_memory": 100 * 2**20}  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films")
    for n, name in enumerate(NAMES):
        pictures = [np.full((36, 64, 3), 20 * i + n, np.uint8) for i in range(8)]
        film = write_film(root / f"{name}.mp4", pictures, 1.0)
        ingest(film, root / "data" / name, options=IngestOptions(clip_s=4, fps=1, speech="none"))
    return root


@pytest.fixture
def two(films: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of the films: for one machine and for the cluster."""
    return tuple(Path(shutil.copytree(films / "data", tmp_path / n)) for n in ("one", "many"))  # type: ignore[return-value]


def start(folder: Path, data: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "longvideo_env.commands.main", "describe", str(data), *more],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def describe(folder: Path, data: Path, *more: str, code: int = 0) -> tuple[str, str]:
    process = start(folder, data, *more)
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err
    return out, err


def layers(data: Path) -> dict[str, bytes]:
    return {str(p.relative_to(data)): p.read_bytes() for p in sorted(data.rglob("layers/*"))}


def n_read(folder: Path) -> int:
    notes = folder / "read.txt"
    return len(notes.read_text().splitlines()) if notes.exists() else 0


def test_films_that_fail_are_named_and_what_is_done_is_not_done_again(
    two: tuple[Path, Path], tmp_path: Path, address: str
) -> None:
    one, many = two
    describe(tmp_path, one, *SHADES)
    (tmp_path / "deadly.txt").touch()
    (tmp_path / "read.txt").unlink()
    clips = next((many / "b").glob("*subtitle*"))
    kept = clips.read_text()
    clips.write_text("{")
    ray = ("--ray", address, "--ray-workers", "2")
    out, err = describe(tmp_path, many, *SHADES, *ray, code=3)
    assert sorted(line.partition(":")[0] for line in out.splitlines()) == ["a", "c", "e", "f"]
    b, deadly = sorted(err.splitlines())
    assert b.startswith("longvideo-env describe: b: ")
    assert clips.name in b
    assert deadly.startswith(
        "longvideo-env describe: deadly: the worker that described it was lost 3 times"
    )
    done = {name: body for name, body in layers(one).items() if name[:1] in "acef"}
    assert {name: layers(many)[name] for name in done} == done
    tries = [line for line in (tmp_path / "read.txt").read_text().splitlines() if "deadly" in line]
    assert len(tries) == 3
    # Without the causes, the same command makes only the missing parts.
    clips.write_text(kept)
    (tmp_path / "deadly.txt").unlink()
    (tmp_path / "read.txt").unlink()
    out, _ = describe(tmp_path, many, *SHADES, *ray)
    assert out.count("already exists") == 4
    assert n_read(tmp_path) == 2 * 8
    assert layers(many) == layers(one)
    out, _ = describe(tmp_path, many, *SHADES, *ray)
    assert out.count("already exists") == 6
    assert n_read(tmp_path) == 2 * 8


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_leaves_what_was_done(
    how: int, two: tuple[Path, Path], tmp_path: Path, address: str
) -> None:
    one, many = two
    describe(tmp_path, one, *SHADES)
    (tmp_path / "read.txt").unlink()
    ray = ("--ray", address, "--ray-workers", "2")
    first = start(tmp_path, many, *SHADES, *ray)
    for _ in range(600):
        if n_read(tmp_path) >= 12:
            break
        time.sleep(0.1)
    first.send_signal(how)
    _, err = first.communicate(timeout=30)
    assert first.returncode == (130 if how == signal.SIGINT else -how)
    assert (
        how == signal.SIGKILL
        or err == "longvideo-env describe: interrupted; the same command resumes.\n"
    )
    time.sleep(1)  # until its workers are gone, too
    before = n_read(tmp_path)
    assert 12 <= before < 48
    describe(tmp_path, many, *SHADES, *ray)
    assert layers(many) == layers(one)
    # Only unsaved batches are read again: one per worker.
    assert n_read(tmp_path) <= 48 + 2 * Shades.batch


def test_real_models_hear_read_and_embed_as_on_one_machine(
    real_models: Path, whisper_folder: Path, tmp_path: Path, address: str
) -> None:
    recording = real_models / "moonshine_voice" / "assets" / "beckett.wav"
    for name in ("one", "many"):
        for title in ("first", "second"):
            film = tmp_path / f"{title}.mp4"
            if not film.exists():
                write_film(film, [drawn(f"CHAPTER {title.upper()}")], 10.0, recording)
            ingest(film, tmp_path / name / title,
                   options=IngestOptions(clip_s=5, fps=0.5, speech="none"))  # fmt: skip
    ray = ("--ray", address, "--ray-workers", "2")
    for spec in (f"whisper:{whisper_folder}", "rapidocr", f"embed:{real_models / 'minilm'}"):
        said = [
            sorted(describe(tmp_path, tmp_path / name, "--with", spec, "--films", str(tmp_path),
                            *more)[0].splitlines())
            for name, more in (("one", ()), ("many", ray))
        ]  # fmt: skip
        assert said[0] == said[1]
    assert layers(tmp_path / "one") == layers(tmp_path / "many")
    assert len(layers(tmp_path / "one")) == 4
    assert "CHAPTER" in next((tmp_path / "many" / "first").glob("layers/*rapidocr*")).read_text()
