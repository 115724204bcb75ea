"""Measure time and memory from a full-sized dataset on disk to the first reset.

    python benchmarks/load.py
    python benchmarks/load.py --data /tmp/longtvqa

It makes a synthetic set of LongTVQA's size in its real layout (122,039 training and 15,253
validation questions, 21,793 clips, 925 videos, six shows). Then it opens the set in new
interpreters:

- cold: without our index on disk, and with the set's files dropped from the system's page cache;
- cold, files cached: without our index, but with the files in the page cache;
- warm: with the index, and with its pages in the page cache or dropped from it.

The time is from `LongTVQAEnv(dataset=...)` to the return of its first `reset`, with the BM25
grounding agent. The start of the interpreter and imports are shown separately. Memory is from
`/proc/self/smaps_rollup`: resident, and proportional (a page shared by n processes counts 1/n in
each).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

SHOWS = {
    "": "The Big Bang Theory",
    "friends_": "Friends",
    "castle_": "Castle",
    "house_": "House M.D.",
    "met_": "How I Met You Mother",
    "grey_": "Grey's Anatomy",
}
N_VIDEOS, N_CLIPS, N_TRAIN, N_VAL = 925, 21_793, 122_039, 15_253
COLD_S, WARM_S, RESIDENT_MB = 1.0, 0.05, 400
CHILD_TIMEOUT_S = 300


def write_set(folder: Path, scale: float, seed: int = 0) -> None:
    """Write the synthetic set in the real layout, with sizes multiplied by `scale`."""
    rng = np.random.default_rng(seed)
    words = _words(rng)
    clips = _clip_ids(max(2, round(N_VIDEOS * scale)), max(4, round(N_CLIPS * scale)))
    folder.mkdir(parents=True, exist_ok=True)
    qid = 0
    for split, size in (("train", N_TRAIN), ("val", N_VAL)):
        rows = list(_rows(rng, words, clips, qid, max(4, round(size * scale))))
        qid += len(rows)
        _write(folder / f"LongTVQA_{split}.jsonl", rows)
    by_clip = {clip_id: _dialogue(rng, words) for clip_id in clips}
    _write(folder / "LongTVQA_subtitles_clip_level.jsonl", by_clip)
    by_video: dict[str, str] = {}
    for clip_id, text in by_clip.items():
        video_id, label = clip_id.split("_seg")
        by_video[video_id] = by_video.get(video_id, "") + f"<seg{label}>{text}</seg{label}>"
    _write(folder / "LongTVQA_subtitles_episode_level.jsonl", by_video)


def _words(rng: np.random.Generator) -> np.ndarray:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, int(n))) for n in rng.integers(2, 9, 4000)]
    return np.array([*words, "café", "naïve", "señor"])


def _clip_ids(n_videos: int, n_clips: int) -> list[str]:
    shows = list(SHOWS)
    videos = [
        f"{shows[i % 6]}s{i // 6 // 24 + 1:02d}e{i // 6 % 24 + 1:02d}" for i in range(n_videos)
    ]
    ids = []
    for i in range(n_clips):
        video, number = i % n_videos, i // n_videos
        ids.append(f"{videos[video]}_seg{number // 12 + 1:02d}_clip_{number % 12:02d}")
    return ids


def _text(rng: np.random.Generator, words: np.ndarray, n: int) -> str:
    # A few words are frequent and many are rare, as in speech.
    return " ".join(words[(len(words) * rng.random(n) ** 3).astype(int)])


def _dialogue(rng: np.random.Generator, words: np.ndarray) -> str:
    lines = (f"Name : {_text(rng, words, int(n))} ." for n in rng.integers(3, 15, 25))
    return " <eos> ".join(lines)


def _rows(
    rng: np.random.Generator, words: np.ndarray, clips: Sequence[str], first: int, n: int
) -> Iterator[dict[str, Any]]:
    for i in range(n):
        clip_id = clips[int(rng.integers(len(clips)))]
        start = float(rng.integers(0, 6000)) / 100
        show = clip_id.split("_")[0] + "_"
        yield {
            "qid": first + i,
            "q": _text(rng, words, 13) + " ?",
            **{f"a{k}": _text(rng, words, int(rng.integers(2, 9))) for k in range(5)},
            "answer": f"a{int(rng.integers(5))}",
            "ts": [start, start + 8.5],
            "episode_name": clip_id.split("_seg")[0],
            "occur_clip": clip_id,
            "show_name": SHOWS.get(show, SHOWS[""]),
        }


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def child(data: Path, every_video: bool) -> int:
    """Open the set in this interpreter, and write one line of JSON."""
    start = time.perf_counter()
    import agents.grounding.offline
    import agents.vision.captions  # noqa: F401 - the environment finds it by its entry point
    from longvideo_env import LongTVQAEnv

    import_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    env = LongTVQAEnv(dataset=str(data))
    env.reset(seed=0)
    record: dict[str, Any] = {"import_s": import_s, "reset_s": time.perf_counter() - start}
    record |= {"cpu_s": time.process_time() - cpu, "n": len(env.dataset)}
    record["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    record["after_reset"] = memory()
    if every_video:
        for video_id in env.dataset.videos:
            assert env.dataset.videos[video_id].clips
        sum(len(task.question.text) for task in env.dataset)
        record["after_all"] = memory()
    print(json.dumps(record), flush=True)
    # The other processes are measured while this one still holds its pages.
    sys.stdin.readline()
    print(json.dumps(memory()), flush=True)
    sys.stdin.readline()
    return 0


def memory() -> dict[str, float]:
    """Megabytes of this process: resident, proportional, and mapped from files."""
    kinds = {"Rss": "resident", "Pss": "proportional", "Private_Dirty": "private"}
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return {name: sizes[key] / 1024 for key, name in kinds.items()}


class Child:
    """A new interpreter that opens the set, and runs until it is ended."""

    def __init__(self, data: Path, cache: Path, every_video: bool = False) -> None:
        command = [sys.executable, __file__, "--child", str(data)]
        command += ["--every-video"] if every_video else []
        environment = os.environ | {"LONGVIDEO_ENV_CACHE": str(cache)}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self) -> dict[str, Any]:
        """The next line that it writes."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"load: a measured process ended early ({self._process.wait()}).")
        record: dict[str, Any] = json.loads(line)
        return record

    def go_on(self) -> None:
        """Let the process continue with the next step."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End the process."""
        self.go_on()
        self._process.wait(timeout=CHILD_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def open_once(data: Path, cache: Path, *, drop: bool, every_video: bool = False) -> dict[str, Any]:
    """Measure one process alone."""
    if drop:
        drop_pages(data)
        drop_pages(cache)
    child = Child(data, cache, every_video)
    record = child.read()
    child.go_on()
    child.read()
    child.end()
    return record


def drop_pages(folder: Path) -> None:
    """Drop a folder's files from the system's page cache, as far as the system allows."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(data: Path, rounds: int) -> None:
    """Measure, and print the figures with their targets."""
    with tempfile.TemporaryDirectory() as scratch:
        firsts = []
        for number in range(rounds):
            firsts.append(open_once(data, Path(scratch) / f"disk-{number}", drop=True))
        cached = [open_once(data, Path(scratch) / f"read-{n}", drop=False) for n in range(rounds)]
        cache = Path(scratch) / "disk-0"
        warm_disk = [open_once(data, cache, drop=True) for _ in range(rounds)]
        warm = [open_once(data, cache, drop=False) for _ in range(rounds)]
        everything = open_once(data, cache, drop=False, every_video=True)
        several = [eight(data, cache, every_video=every) for every in (False, True)]
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 2**20
    print_heading(data, firsts[0]["n"], size)
    times("cold: no index, files not in page cache", firsts, COLD_S)
    times("cold: no index, files in page cache", cached, COLD_S)
    times("warm: index on disk, not in page cache", warm_disk, WARM_S)
    times("warm: index in page cache", warm, WARM_S)
    print(f"\n{'memory':46}{'MB':>9}{'':>9}{'target':>9}")
    sizes("one process, cold: its peak", max(record["peak"] for record in firsts))
    sizes("one process, warm", warm[0]["after_reset"]["resident"])
    sizes("one process, every video and question used", everything["after_all"]["resident"])
    for found, when in zip(several, ("after a reset", "all used"), strict=True):
        print(f"\neight processes at once, {when}:")
        sizes("the largest", max(m["resident"] for m in found))
        total = sum(m["resident"] for m in found)
        print(f"{'all, added up':46}{total:9.0f}")
        once = sum(m["proportional"] for m in found)
        print(f"{'all, shared pages counted once':46}{once:9.0f}")
    print(f"\nimports, before all that: {statistics.median(r['import_s'] for r in warm):.2f} s")


def eight(data: Path, cache: Path, *, every_video: bool) -> list[dict[str, Any]]:
    """The memory of eight processes that have the set open at the same time."""
    children = [Child(data, cache, every_video) for _ in range(8)]
    for process in children:
        process.read()
    for process in children:
        process.go_on()
    found = [process.read() for process in children]
    for process in children:
        process.end()
    return found


def times(label: str, records: Sequence[dict[str, Any]], target: float) -> None:
    """Print a line of the table of times, with medians."""
    wall = statistics.median(record["reset_s"] for record in records)
    cpu = statistics.median(record["cpu_s"] for record in records)
    print(f"{label:46}{wall:9.2f}{cpu:9.2f}{target:9.2f}  {verdict(wall <= target)}")


def sizes(label: str, value: float) -> None:
    """Print a line of the table of memory."""
    print(f"{label:46}{value:9.0f}{'':9}{RESIDENT_MB:9.0f}  {verdict(value <= RESIDENT_MB)}")


def verdict(reached: bool) -> str:
    """The word at the end of a line."""
    return "reached" if reached else "MISSED"


def print_heading(data: Path, n: int, index_mb: float) -> None:
    """Print the machine and the sizes of the set."""
    size = sum(path.stat().st_size for path in data.iterdir()) / 2**20
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}; Python {platform.python_version()}; {date.today()}")
    print(f"{n:,} questions; {size:.0f} MB of files; index of {index_mb:.0f} MB\n")
    print(f"{'time to the first reset':46}{'s':>9}{'CPU s':>9}{'target':>9}")


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--data", type=Path, help="folder of the synthetic set, made if it does not exist, and kept"
    )
    add("--scale", type=float, default=1.0, help="size of the set; 1 is LongTVQA's (default 1)")
    add("--rounds", type=int, default=3, help="measured processes of each kind (default 3)")
    add("--child", type=Path, help=argparse.SUPPRESS)
    add("--every-video", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        return child(args.child, args.every_video)
    with tempfile.TemporaryDirectory() as scratch:
        data = args.data or Path(scratch) / "data"
        if not data.is_dir():
            print(f"making the set in {data} ...", file=sys.stderr, flush=True)
            write_set(data, args.scale)
        measure(data, args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
