"""Measure the overhead of Ray: two workers compared with two shards, and the driver's rate.

    python benchmarks/scale_ray.py
    python benchmarks/scale_ray.py --samples 8

The same offline questions of `mini` are played twice. First two processes play `--shard 1/2` and
`2/2`, and their folders are merged. Then one command plays with `--ray-workers 2` on an existing
cluster of this machine. Both end with the same folder.

The time for the shards is their `wall_s` and the merge. The time for Ray is its run's `wall_s`
without the time until the first results, in which workers start. Neither includes the start of
Python. The times of the whole commands are also printed.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.cluster.joining import load_ray
from eval.merge import merge

ROOT = Path(__file__).resolve().parents[1]
POLICY = "scripted:ground-look-answer"
FOLDER = "scripted-ground-look-answer"


def start(out: Path, samples: int, *more: str) -> subprocess.Popen[str]:
    """Start one command of the evaluator."""
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
    """Seconds of playing, from a run's summary."""
    return float(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["wall_s"])


@contextmanager
def cluster() -> Iterator[str]:
    """A cluster of one node with two CPUs on 127.0.0.1. Gives its address."""
    load_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    there = Cluster(initialize_head=True, head_node_args=node)
    try:
        yield there.address
    finally:
        there.shutdown()


def by_hand(out: Path, samples: int) -> tuple[float, float]:
    """Play two shards and merge them. Returns seconds of playing, and of the merge."""
    shards = [start(out, samples, "--shard", f"{i}/2") for i in (1, 2)]
    for shard in shards:
        said, _ = shard.communicate()
        assert shard.returncode == 0, said
    parts = sorted(out.glob(f"{FOLDER}.shard-*"))
    begin = time.perf_counter()
    merge(parts, out / FOLDER)
    return max(map(wall_of, parts)), time.perf_counter() - begin


def with_ray(out: Path, samples: int, address: str) -> tuple[float, float]:
    """Play with two workers. Returns seconds of playing, and until the first results."""
    run = start(out, samples, "--ray", address, "--ray-workers", "2")
    said, _ = run.communicate()
    assert run.returncode == 0, said
    found = re.search(r"ready after ([\d.]+) s", said)
    assert found, said
    return wall_of(out / FOLDER) - float(found[1]), float(found[1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=20, help="samples of each of 500 questions")
    samples = parser.parse_args().samples
    n = 500 * samples
    with tempfile.TemporaryDirectory(prefix="longvideo-ray-") as name:
        hand, ray = Path(name, "hand"), Path(name, "ray")
        begin = time.perf_counter()
        shards_s, merge_s = by_hand(hand, samples)
        hand_s = time.perf_counter() - begin
        with cluster() as address:
            begin = time.perf_counter()
            played_s, ready_s = with_ray(ray, samples, address)
            ray_s = time.perf_counter() - begin
        same = [
            (ray / FOLDER / file).read_bytes() == (hand / FOLDER / file).read_bytes()
            for file in ("config.json", "questions.json")
        ]
    print(f"{n:,} episodes; config.json and questions.json equal: {all(same)}")
    print(f"two shards by hand: {shards_s:.1f} s of playing, {merge_s:.1f} s of merging; "
          f"{hand_s:.1f} s as commands")  # fmt: skip
    print(f"two workers of Ray: {played_s:.1f} s of playing, {ready_s:.1f} s until the first "
          f"results; {ray_s:.1f} s as a command")  # fmt: skip
    print(
        f"overhead {100 * (played_s / (shards_s + merge_s) - 1):.0f} % until the same folder is "
        f"complete ({100 * (played_s / shards_s - 1):.0f} % against shards without the merge)"
    )
    print(f"through the driver {n / played_s:,.0f} episodes/s")


if __name__ == "__main__":
    main()
