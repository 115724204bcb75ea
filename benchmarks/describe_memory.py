"""Measure the memory of `describe --ray`. It must not grow with the number or length of films.

    python benchmarks/describe_memory.py
    python benchmarks/describe_memory.py --films 20 200 2000

Ingests generated films, describes them with two workers on a cluster on this machine, and samples
the unshared memory of each process (USS). The model only reads each frame's brightness, so the
memory is that of the pipeline.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from longvideo_env.commands.data.ingest import IngestOptions, ingest
from longvideo_env.datasets.layers import Maker

MIB = 2**20
SIZE = (36, 64)
SAMPLE_S = 0.5


class Brightness:
    """Describes a frame by its mean brightness."""

    every_s, batch = 1.0, 8
    maker = Maker("captions", "brightness", "1", {})

    def __init__(self, argument: str = "") -> None:
        del argument

    def read(self, frames: Sequence[Path], /) -> Sequence[Sequence[str]]:
        """One line for each frame."""
        from PIL import Image

        return [[f"brightness {int(np.asarray(Image.open(path)).mean())}"] for path in frames]


@dataclass(frozen=True)
class Peaks:
    """The time and memory of one run.

    Attributes:
        wall_s: Seconds of the whole command.
        driver: Peak memory of the command's own process, in MiB.
        worker: Peak memory of the largest worker, in MiB.
        ray: Peak memory of Ray's own processes together, in MiB.
    """

    wall_s: float
    driver: float
    worker: float
    ray: float


def write_film(path: Path, seconds: int) -> None:
    """A film with one picture per second. Each is brighter than the one before."""
    import av

    with av.open(str(path), "w") as film:
        video = film.add_stream("mpeg4", rate=1)
        video.height, video.width = SIZE
        video.pix_fmt = "yuv420p"
        for second in range(seconds):
            picture = np.full((*SIZE, 3), second % 256, np.uint8)
            film.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(video.encode(None))


def make_films(folder: Path, n: int, seconds: int) -> Path:
    """A dataset of `n` films."""
    write_film(folder / "film.mp4", seconds)
    for i in range(n):
        film = folder / f"film{i:05d}.mp4"
        os.link(folder / "film.mp4", film)
        ingest(
            film,
            folder / "data" / film.stem,
            options=IngestOptions(clip_s=60, fps=1, speech="none"),
        )
    return folder / "data"


def describe(data: Path, n: int) -> Peaks:
    """Run the command and measure its memory."""
    command = [sys.executable, "-m", "longvideo_env.commands.main", "describe", str(data)]
    command += ["--with", f"{Path(__file__).resolve()}:Brightness", "--kind", "captions"]
    begin = time.perf_counter()
    run = subprocess.Popen(
        [*command, "--ray", "local", "--ray-workers", "2"], stdout=subprocess.PIPE, text=True
    )
    peaks: Counter[str] = Counter()
    while run.poll() is None:
        for name, used in sizes(psutil.Process(run.pid)).items():
            peaks[name] = max(peaks[name], used)
        time.sleep(SAMPLE_S)
    wall_s = time.perf_counter() - begin
    said = run.stdout.read().splitlines() if run.stdout else []
    assert run.returncode == 0, said[-5:]
    assert len(said) == n, f"{len(said)} of {n} films"
    return Peaks(wall_s, *(peaks[name] / MIB for name in ("driver", "worker", "ray")))


def sizes(process: psutil.Process) -> Counter[str]:
    """The unshared bytes of the command, its largest worker and Ray's own processes."""
    found: Counter[str] = Counter()
    try:
        found["driver"] = process.memory_full_info().uss
        children = process.children(recursive=True)
    except psutil.Error:
        return found
    for child in children:
        try:
            title, used = " ".join(child.cmdline()), child.memory_full_info().uss
        except psutil.Error:
            continue
        if title.startswith("ray::") and "IDLE" not in title:
            found["worker"] = max(found["worker"], used)
        else:
            found["ray"] += used
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, nargs="+", default=[20, 200], help="numbers of films")
    parser.add_argument("--seconds", type=int, default=60, help="length of each, a frame a second")
    parser.add_argument("--long", type=int, default=20, help="how much longer the last film is")
    options = parser.parse_args()
    print("| films | seconds each | wall s | driver MiB | largest worker MiB | Ray's own MiB |")
    print("|---|---|---|---|---|---|")
    plans = [(n, options.seconds) for n in options.films]
    for n, seconds in [*plans, (2, options.seconds * options.long)]:
        with tempfile.TemporaryDirectory(prefix="longvideo-describe-") as name:
            peaks = describe(make_films(Path(name), n, seconds), n)
        print(
            f"| {n:,} | {seconds:,} | {peaks.wall_s:.1f} | {peaks.driver:.0f} | "
            f"{peaks.worker:.0f} | {peaks.ray:.0f} |", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
