"""What Ray costs: a run on two workers against two shards by hand, and the driver's own rate.

    python benchmarks/scale_ray.py
    python benchmarks/scale_ray.py --samples 8

The same offline questions of `mini` are played by two processes with `--shard 1/2` and `2/2`, and
`eval/merge.py` after them; and by one command with `--ray local --ray-workers 2`. Compared is the
time of playing (`wall_s` of the summaries), without the start of Python; that of the cluster, and
of its workers, is in the run's own and is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POLICY = "scripted:ground-look-answer"
FOLDER = "scripted-ground-look-answer"


def start(out: Path, samples: int, *more: str) -> subprocess.Popen[str]:
    """One command of the evaluator."""
    command = [sys.executable, str(ROOT / "eval/run_policy.py"), "--policy", POLICY]
    command += ["--dataset", "mini", "--split", "val", "--samples", str(samples), "--out", str(out)]
    return subprocess.Popen(
        [*command, *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wall_of(folder: Path) -> float:
    """Seconds of playing, by a run's own summary."""
    return float(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["wall_s"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=20, help="plays of each of 500 questions")
    samples = parser.parse_args().samples
    with tempfile.TemporaryDirectory(prefix="longvideo-ray-") as name:
        work = Path(name)
        begin = time.perf_counter()
        shards = [start(work / "hand", samples, "--shard", f"{i}/2") for i in (1, 2)]
        for shard in shards:
            shard.communicate()
        parts = sorted((work / "hand").glob(f"{FOLDER}.shard-*"))
        subprocess.run(
            [sys.executable, str(ROOT / "eval/merge.py"), *map(str, parts),
             "--out", str(work / "hand" / FOLDER)], check=True, capture_output=True,
        )  # fmt: skip
        by_hand, hand_s = max(map(wall_of, parts)), time.perf_counter() - begin
        begin = time.perf_counter()
        said, _ = start(work / "ray", samples, "--ray", "local", "--ray-workers", "2").communicate()
        ray_s = time.perf_counter() - begin
        with_ray = wall_of(work / "ray" / FOLDER)
        found = re.search(r"ready after ([\d.]+) s", said)
        ready = float(found[1]) if found else 0.0
        n = 500 * samples
        same = (work / "ray" / FOLDER / "config.json").read_bytes() == (
            work / "hand" / FOLDER / "config.json"
        ).read_bytes()
    playing = with_ray - ready
    print(f"{n:,} episodes; config.json equal: {same}")
    print(f"two shards by hand: {by_hand:.1f} s of playing; {hand_s:.1f} s as commands, with merge")
    print(f"two workers of Ray: {playing:.1f} s of playing, {ready:.1f} s until they were ready; "
          f"{ray_s:.1f} s as a command")  # fmt: skip
    print(f"overhead {100 * (playing / by_hand - 1):.0f} % (with the start of the cluster "
          f"{100 * (with_ray / by_hand - 1):.0f} %)")  # fmt: skip
    print(f"through the driver {n / playing:,.0f} episodes/s")


if __name__ == "__main__":
    main()
