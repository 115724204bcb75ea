"""Measure questions per second, CPU time and use of concurrency, with agents over the network.

    python benchmarks/eval_throughput.py
    python benchmarks/eval_throughput.py --questions 300 --in-flight 128

`eval/run_policy.py` plays questions of `tvqa_plus_dev` with a master, a grounding agent and a
vision agent behind one loopback server (`benchmarks/upstream.py`). A question takes eight calls,
two of them with fifteen JPEGs of 640x360, which this script makes. Recording is off. The time
includes the start of Python, reading the dataset, and writing episodes and summary.

- At zero latency: questions per second over the whole command, and its CPU seconds.
- At LATENCY=0.5 SIGMA=0.8, for each number of requests in flight: the ideal time divided by the
  real time from the first call to the last, with all questions at once. The ideal time is the sum
  of all latencies divided by the number in flight. The latencies come from the server's own
  generator, drawn again here.

A question's eight calls are made one after another. So 300 questions cannot fill 512 places. With
128 places, the last calls of the run, which overlap with nothing, take a good part of the time. How
long depends on which calls have the longest latencies. So the script also prints the best possible
result with these latencies: the least and the most of twenty simulated orders. With fewer than
eight questions per place, it also plays all 1,652 questions twice, so the end of the run counts
less.

The original's evaluator plays 1.48 questions per second and takes 0.63 CPU seconds per question on
the same work (300 TVQA+ questions, 30 threads).
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random  # noqa: TID251 - the server's own generator is drawn again
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from upstream import CALLS_A_QUESTION, DEFAULT_MOCK, Upstream, serve

from longvideo_env import load_dataset

ROOT = Path(__file__).resolve().parents[1]
DATASET = ROOT.parent / "shared" / "data" / "tvqa_plus_dev"
ORIGINAL_RATE = 1.48
ORIGINAL_CPU_S = 0.63
FRAMES_A_LOOK = 15
LATENCY, SIGMA = 0.5, 0.8
ORDERS = 20


@dataclass(frozen=True)
class Run:
    """One call of the evaluator.

    Attributes:
        questions: Number of questions played. A question played twice counts twice.
        wall_s: Seconds of the whole command.
        play_s: Seconds from the first episode to the last.
        cpu_s: CPU seconds of the whole command.
        calls: Number of requests that the server answered.
        peak: The most requests in flight at the server.
    """

    questions: int
    wall_s: float
    play_s: float
    cpu_s: float
    calls: int
    peak: int


def make_frames(folder: Path, dataset: Path, size: tuple[int, int] = (360, 640)) -> None:
    """Make fifteen JPEGs for each clip, of 640x360 by default, as links to 150 pictures."""
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    for i in range(150):
        noise = rng.integers(0, 40, size=(*size, 3))
        base = np.stack([rows * 0.5 + i, columns * 0.3, (rows + columns) * 0.2], axis=-1)
        image = Image.fromarray(((base + noise) % 256).astype(np.uint8))
        image.save(pictures / f"{i}.jpg", quality=75)
    clip_ids = {c for v in load_dataset(str(dataset), "val").videos.values() for c in v.clip_ids}
    for k, clip_id in enumerate(sorted(clip_ids)):
        clip = folder / "frames" / clip_id
        clip.mkdir(parents=True)
        for j in range(FRAMES_A_LOOK):
            os.link(pictures / f"{(k * 7 + j) % 150}.jpg", clip / f"{1 + 12 * j:05d}.jpg")


def play(
    upstream: Upstream,
    work: Path,
    dataset: Path,
    questions: int,
    *,
    in_flight: int,
    episodes: int,
    samples: int = 1,
) -> Run:
    """Play each question `samples` times, in its own process."""
    endpoints = work / "endpoints.yaml"
    endpoints.write_text(
        yaml.safe_dump(
            {"endpoints": {"mock": {"base_url": upstream.url, "max_in_flight": in_flight}}}
        )
    )
    command = [
        sys.executable, str(ROOT / "eval" / "run_policy.py"),
        "--policy", "openai:master@mock", "--grounding", "openai:ground@mock",
        "--vision", f"openai:vision@mock,frames={FRAMES_A_LOOK}",
        "--dataset", str(work / "questions.json"), "--split", "all",
        "--frames-root", str(work / "frames"), "--limit", str(questions),
        "--samples", str(samples), "--concurrency", str(episodes),
        "--out", str(work / "runs"), "--overwrite",
    ]  # fmt: skip
    before, start = upstream.stats(), time.perf_counter()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"LONGVIDEO_ENDPOINTS": str(endpoints)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - start
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"run_policy.py failed:\n{done.stdout}\n{done.stderr}")
    (file,) = (work / "runs").glob("*/summary.json")
    summary = json.loads(file.read_text(encoding="utf-8"))
    assert summary["n_failed"] == 0, summary["errors"]
    played = questions * samples
    assert summary["n_answered"] == played, summary["status"]
    after = upstream.stats()
    roles = ("master", "grounding", "vision")
    calls = sum(after[role] - before[role] for role in roles)
    assert calls == CALLS_A_QUESTION * played, (calls, played)
    return Run(
        played,
        wall_s,
        float(summary["wall_s"]),
        now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime,
        calls,
        after["peak"],
    )


def latencies_s(calls: int) -> list[float]:
    """The latencies that the server's generator draws for this many calls."""
    rng = Random(0)
    drawn = []
    for _ in range(calls):
        drawn.append(LATENCY * rng.lognormvariate(0, SIGMA))
        rng.random()  # the server's draw for a fault
    return drawn


def attainable(latencies: Sequence[float], in_flight: int) -> tuple[float, float]:
    """Ideal time divided by real time, if only the calls take time, first come, first served.

    Returns:
        The least and the most of `ORDERS` orders of the latencies.
    """
    ideal_s, found = sum(latencies) / in_flight, []
    for seed in range(ORDERS):
        order = list(latencies)
        Random(seed).shuffle(order)
        found.append(ideal_s / _simulate_s(order, in_flight))
    return min(found), max(found)


def _simulate_s(latencies: Sequence[float], in_flight: int) -> float:
    upcoming = iter(latencies)
    waiting = deque(CALLS_A_QUESTION for _ in range(len(latencies) // CALLS_A_QUESTION))
    running: list[tuple[float, int]] = []
    now = 0.0
    while waiting or running:
        while waiting and len(running) < in_flight:
            heapq.heappush(running, (now + next(upcoming), waiting.popleft() - 1))
        now, left = heapq.heappop(running)
        if left:
            waiting.append(left)
    return now


def write_questions(folder: Path, dataset: Path) -> int:
    """Write both splits as one file, with its subtitles. Returns the number of questions."""
    rows: list[Any] = []
    for split in ("val", "train"):
        rows += json.loads((dataset / f"LongTVQA_plus_{split}.json").read_text(encoding="utf-8"))
    (folder / "questions.json").write_text(json.dumps(rows), encoding="utf-8")
    subtitles = dataset / "LongTVQA_plus_subtitle_clip_level.json"
    (folder / "questions_subtitle_clip_level.json").write_bytes(subtitles.read_bytes())
    return len(rows)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mock", type=Path, default=DEFAULT_MOCK, help="The mock server's script.")
    parser.add_argument("--dataset", type=Path, default=DATASET, help="The data pack's folder.")
    parser.add_argument(
        "--questions", type=int, default=300, metavar="N", help="Questions. Default: 300."
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=3,
        metavar="R",
        help="Runs at zero latency, for the median.",
    )
    parser.add_argument(
        "--in-flight", type=int, nargs="*", default=[32, 128, 512], metavar="C",
        help="Numbers of requests in flight. Default: 32 128 512.",
    )  # fmt: skip
    return parser


def main() -> None:
    """Measure and print."""
    options = build_parser().parse_args()
    for path in (options.mock, options.dataset):
        if not path.exists():
            raise SystemExit(f"{path} does not exist. Fix: give --mock and --dataset.")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        total = write_questions(work, options.dataset)
        make_frames(work, options.dataset)
        with serve(options.mock) as upstream:
            runs = [
                play(upstream, work, options.dataset, options.questions, in_flight=64, episodes=64)
                for _ in range(options.repeat)
            ]
        for run in runs:
            print(
                f"zero latency: {run.questions} questions, {run.calls} calls in {run.wall_s:.2f} s "
                f"({run.play_s:.2f} s of it playing), {run.cpu_s:.2f} CPU-s",
                flush=True,
            )
        for in_flight in options.in_flight:
            plays = [(options.questions, 1)]
            if options.questions < 8 * in_flight:
                plays.append((total, 2))
            for n, samples in plays:
                with serve(options.mock, LATENCY, SIGMA) as upstream:
                    run = play(
                        upstream,
                        work,
                        options.dataset,
                        n,
                        in_flight=in_flight,
                        episodes=n * samples,
                        samples=samples,
                    )
                latencies = latencies_s(run.calls)
                ideal, (least, most) = sum(latencies) / in_flight, attainable(latencies, in_flight)
                print(
                    f"LATENCY={LATENCY} SIGMA={SIGMA}, {in_flight} in flight (peak {run.peak}), "
                    f"{n} questions{' twice' * (samples > 1)}: ideal {ideal:.1f} s, "
                    f"real {run.play_s:.1f} s, {ideal / run.play_s:.2f} of the ideal "
                    f"(attainable: {least:.2f}-{most:.2f})",
                    flush=True,
                )
    middle = sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2]
    rate, cpu_s = middle.questions / middle.wall_s, middle.cpu_s / middle.questions
    print(
        f"{rate:.1f} questions/s, {cpu_s:.4f} CPU-s/question, "
        f"{rate / ORIGINAL_RATE:.1f} times the original"
    )


if __name__ == "__main__":
    main()
