"""Check an evaluation over the network under faults, kills and recordings.

    python benchmarks/eval_robustness.py
    python benchmarks/eval_robustness.py --questions 300 --only kills

It uses the upstream of `benchmarks/eval_throughput.py`, with the same eight calls per question:

- faults: the upstream answers every fifth request with a 429, a 500, a closed connection or half a
  body. The run is compared with an undisturbed one. Lost episodes, failed episodes and different
  answers are counted.
- kills: a run is killed with SIGKILL ten times, each at a random time after it has written
  something. Then it runs to its end. Its episodes and its summary, without timings, are compared
  with the undisturbed run's.
- sharing: eight samples per question, as in a GRPO group, without a recording and with `reuse`. The
  upstream counts the tool calls that reach it. Then two runs with `replay` are compared byte by
  byte. The policies run in this process: `scripted:ground-look-answer`, whose samples make the same
  calls, and `random`, whose samples do not.

The exit code is 1 if anything is lost, differs or reaches the upstream too often.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from eval_throughput import DATASET, ROOT, make_frames, write_questions
from upstream import DEFAULT_MOCK, Upstream, serve

FRAMES = 2
KILLS = 10
GROUP = 8
TIMINGS = ("wall_s", "model_s", "tools_s")


class Bench:
    """A folder with questions and frames, and the evaluator."""

    def __init__(self, work: Path, dataset: Path, questions: int) -> None:
        self.work = work
        self.n = min(write_questions(work, dataset), questions)
        make_frames(work, dataset)

    def command(self, upstream: Upstream, out: str, policy: str, *more: str) -> list[str]:
        """The evaluator's command line. The specs name the endpoint, so that runs are equal."""
        endpoints = {"endpoints": {"mock": {"base_url": upstream.url, "max_in_flight": 64}}}
        (self.work / "endpoints.yaml").write_text(yaml.safe_dump(endpoints))
        return [
            sys.executable, str(ROOT / "eval" / "run_policy.py"), "--policy", policy,
            "--grounding", "openai:ground@mock",
            "--vision", f"openai:vision@mock,frames={FRAMES}",
            "--dataset", str(self.work / "questions.json"), "--split", "all",
            "--frames-root", str(self.work / "frames"), "--limit", str(self.n),
            "--out", str(self.work / out), *more,
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables, with the file of endpoints."""
        return os.environ | {"LONGVIDEO_ENDPOINTS": str(self.work / "endpoints.yaml")}

    def run(self, upstream: Upstream, out: str, policy: str, *more: str) -> tuple[Path, float]:
        """Play to the end. Returns the run's folder and its seconds."""
        start = time.perf_counter()
        done = subprocess.run(
            self.command(upstream, out, policy, *more),
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 3):
            raise SystemExit(f"run_policy.py failed:\n{done.stdout}\n{done.stderr}")
        (file,) = (self.work / out).glob("*/summary.json")
        return file.parent, time.perf_counter() - start


def episodes(folder: Path) -> dict[tuple[Any, int], dict[str, Any]]:
    """Each episode of a run, without its timings."""
    found: dict[tuple[Any, int], dict[str, Any]] = {}
    for line in (folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        record.pop("timings", None)
        key = (record["qid"], record["sample"])
        assert key not in found, f"{key} occurs twice"
        found[key] = record
    return found


def summary(folder: Path) -> dict[str, Any]:
    """A run's summary, without timings."""
    numbers = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {key: value for key, value in numbers.items() if key not in TIMINGS}


def measure_faults(bench: Bench, mock: Path) -> bool:
    """Compare a run with faults with an undisturbed one."""
    with serve(mock) as upstream:
        calm, calm_s = bench.run(upstream, "calm", "openai:master@mock")
    with serve(mock, faults=0.2) as upstream:
        stormy, stormy_s = bench.run(upstream, "stormy", "openai:master@mock")
        faults = upstream.stats()["faults"]
    a, b = episodes(calm), episodes(stormy)
    lost = len(a.keys() - b.keys())
    failed = sum(record["status"] == "failed" for record in b.values())
    differing = sum(a[key]["choice"] != b[key]["choice"] for key in a.keys() & b.keys())
    whole = sum(a[key] != b[key] for key in a.keys() & b.keys())
    print(
        f"faults: {len(a)} questions undisturbed in {calm_s:.1f} s; with FAULTS=0.2, {faults} "
        f"faults, in {stormy_s:.1f} s: {lost} lost, {failed} failed, {differing} answers differ, "
        f"{whole} episodes differ in anything but timings",
        flush=True,
    )
    return lost == failed == differing == 0


def wait_for_progress(file: Path, before: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run has written an episode. Before that a kill disturbs nothing."""
    while process.poll() is None:
        if file.exists() and file.read_bytes().count(b"\n") > before:
            return
        time.sleep(0.02)


def measure_kills(bench: Bench, mock: Path) -> bool:
    """Compare a run that is killed ten times with an undisturbed one."""
    rng = np.random.default_rng(0)
    with serve(mock) as upstream:
        calm, calm_s = bench.run(upstream, "untouched", "openai:master@mock")
        file = bench.work / "killed" / calm.name / "episodes.jsonl"
        counts = []
        for _ in range(KILLS):
            process = subprocess.Popen(
                bench.command(upstream, "killed", "openai:master@mock"),
                env=bench.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            wait_for_progress(file, counts[-1] if counts else 0, process)
            time.sleep(float(rng.uniform(0.0, 0.5 * calm_s / KILLS)))
            process.kill()
            process.wait()
            counts.append(file.read_bytes().count(b"\n") if file.exists() else 0)
        killed, _ = bench.run(upstream, "killed", "openai:master@mock")
    a, b = episodes(calm), episodes(killed)
    same_summary = summary(calm) == summary(killed)
    print(
        f"kills: {KILLS} times SIGKILL, with {counts} episodes on disk after each; then "
        f"{len(b)} of {len(a)} episodes, once each: {'the same' if a == b else 'NOT the same'} "
        f"episodes, {'the same' if same_summary else 'NOT the same'} summary",
        flush=True,
    )
    return a == b and same_summary


def measure_sharing(bench: Bench, mock: Path) -> bool:
    """Play groups of eight with and without a recording, and two replays."""
    good = True
    bench.n = min(bench.n, 200)
    for policy in ("scripted:ground-look-answer", "random"):
        name = policy.partition(":")[0]
        more = ("--samples", str(GROUP))
        calls, hit_rate = [], None
        for mode in ("off", "reuse"):
            recording = (
                "--recording",
                mode,
                "--recording-file",
                str(bench.work / f"{name}.sqlite"),
            )
            with serve(mock) as upstream:
                folder, _ = bench.run(upstream, f"{name}-{mode}", policy, *more, *recording)
                stats = upstream.stats()
            calls.append(stats["grounding"] + stats["vision"])
            hit_rate = summary(folder)["recording"].get("hit_rate")
        replays = []
        with serve(mock) as upstream:
            for i in (1, 2):
                recording = (
                    "--recording", "replay", "--recording-file", str(bench.work / f"{name}.sqlite"),
                )  # fmt: skip
                folder, _ = bench.run(upstream, f"{name}-replay-{i}", policy, *more, *recording)
                replays.append((folder / "episodes.jsonl").read_bytes())
            stats = upstream.stats()
            reached = stats["grounding"] + stats["vision"]
        share = calls[1] / calls[0]
        equal = replays[0] == replays[1] and reached == 0
        print(
            f"sharing, {policy}, {bench.n} questions x {GROUP}: {calls[0]} tool calls without a "
            f"recording, {calls[1]} with reuse ({share:.3f}; hit rate {hit_rate}); two replays: "
            f"{'byte-identical' if equal else 'NOT identical'} episodes "
            f"({len(replays[0]):,} bytes), {reached} calls reached the upstream",
            flush=True,
        )
        good = good and share <= 0.25 and equal
    return good


MEASURES = {"faults": measure_faults, "kills": measure_kills, "sharing": measure_sharing}


def main() -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mock", type=Path, default=DEFAULT_MOCK, help="The mock server's script.")
    parser.add_argument("--dataset", type=Path, default=DATASET, help="The data pack's folder.")
    parser.add_argument(
        "--questions", type=int, default=1652, metavar="N", help="Questions. Default: 1652."
    )
    parser.add_argument("--only", choices=MEASURES, help="Only this measurement.")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.dataset, options.questions)
        for name, measure in MEASURES.items():
            if options.only in (None, name):
                good = measure(bench, options.mock) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
