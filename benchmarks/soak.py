"""Serve, evaluate and record for half an hour under faults and kills, and check for losses.

    make soak                # 30 minutes; exit code 0 or 1
    make soak SOAK_S=60

The upstream is the loopback mock server. A share of its replies are errors 429 and 500, closed and
reset connections, half a JSON body, JSON of the wrong shape, and replies that drip without an end.
Four activities run at the same time, all with grounding and vision over that network:

- a server (`longvideo-env serve`, which records) for players over WebSockets. Some players abort
  their connection in the middle of an episode, and some are processes killed with SIGKILL;
- an evaluator: one process that plays runs one after the other, each in a new folder;
- runs that are killed with SIGKILL three times each and then resumed until no episode has failed.
  Each is then replayed from its recording alone, and must give the same answers;
- a measurement every second of memory (resident set), open files and sockets of server and
  evaluator.

Nothing may be lost: an episode that was on disk before a kill, a requested question, a turn of the
server, a call of the recording. Nothing may occur twice: an episode, a turn. The median memory in
the last third of the time must be within 5 % of that in the second third. Files and sockets open
and close with each request, so their least number shows leaks. It may grow by at most 2, or 10 %,
from the second to the last third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout

sys.path.insert(0, str(Path(__file__).parent))

from eval_throughput import DATASET, ROOT, make_frames
from serve import memory_mb, server
from upstream import DEFAULT_MOCK, serve

FAULTS, STORMS, LATENCY_S = 0.05, 0.05, 0.02
RUN, KILLS = 60, 3
MOST_MEMORY = 0.05
MEASURED = {"median of MB": statistics.median, "least files": min, "least sockets": min}
WAIT_S = 60
TURNS = (
    "<reasoning>See.</reasoning><search>what is number {}?</search>",
    "<reasoning>Not here.</reasoning><request_grounding>scene {}</request_grounding>",
    "<reasoning>Again.</reasoning><search>who holds number {}?</search>",
    "<reasoning>Enough.</reasoning><answer>a1</answer>",
)


class Soak:
    """All activities and their counts.

    Args:
        work: A folder.
        seconds: The duration.
    """

    def __init__(self, work: Path, seconds: float) -> None:
        self.work, self.seconds = work, seconds
        self.counts: Counter[str] = Counter()
        self.samples: dict[str, list[tuple[float, float, int, int]]] = {}
        self.rng = np.random.default_rng(0)
        self.url = ""
        self.ends = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.ends

    def problem(self, kind: str, what: str) -> None:
        """Count a loss or a double, and print it."""
        self.counts[kind] += 1
        print(f"{kind}: {what}", flush=True)

    async def play(self, number: int) -> None:
        """Play at the server, until the time is up."""
        rng = np.random.default_rng(number)
        async with ClientSession(timeout=ClientTimeout(total=None)) as http:
            while not self.over:
                try:
                    async with http.ws_connect(f"{self.url}/ws") as socket:
                        for _ in range(5):
                            await self._episode(socket, rng)
                        self.counts["players that vanished"] += 1
                        await _reset(socket, rng)
                        socket._response.connection.transport.abort()
                except (ClientError, OSError, TimeoutError, TypeError, _Refused) as error:
                    self.problem(
                        "lost", f"a session of the server ({type(error).__name__}: {error})"
                    )
                    await asyncio.sleep(1)

    async def _episode(self, socket: Any, rng: np.random.Generator) -> None:
        data = await _reset(socket, rng)
        if not data:
            self.counts["resets refused, with a reason"] += 1
            return
        qid = data["observation"]["qid"]
        for turn, text in enumerate(TURNS, start=1):
            data = await _ask(socket, "step", {"text": text.format(int(rng.integers(10**9)))})
            seen = data["observation"]
            if seen["qid"] != qid or (seen["turn"] != turn and not data["done"]):
                self.problem("double" if seen["turn"] > turn else "lost", f"turn {turn}: {seen}")
            self.counts["turns served"] += 1
            if data["done"]:
                break
        else:
            self.problem("lost", f"the end of an episode of question {qid}")
        self.counts["episodes served"] += 1
        self.counts["of them failed, with a reason"] += bool(data["metadata"].get("error"))
        await asyncio.sleep(float(rng.uniform(0.0, 0.3)))

    async def kill_players(self) -> None:
        """Start processes that play at the server, and kill them."""
        command = [sys.executable, __file__, "--role", "player", "--url", self.url]
        while not self.over:
            process = await asyncio.create_subprocess_exec(*command)
            await asyncio.sleep(float(self.rng.uniform(1.5, 4.0)))
            process.kill()
            await process.wait()
            self.counts["players killed"] += 1
            await asyncio.sleep(5.0)

    async def evaluate(self) -> None:
        """Run one process that plays run after run."""
        command = [sys.executable, __file__, "--role", "evaluator", "--work", str(self.work)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        sampling = asyncio.ensure_future(self.watch("evaluator", process.pid))
        try:
            while not self.over:
                left = max(0.0, self.ends - time.monotonic())
                try:
                    line = await asyncio.wait_for(process.stdout.readline(), left)
                except TimeoutError:
                    return
                if not line:
                    self.problem("lost", f"the evaluator ended ({await process.wait()})")
                    return
                done = json.loads(line)
                self._check_run(Path(done["folder"]), f"a run of the evaluator, {done}")
                self.counts["runs of the evaluator"] += 1
        finally:
            sampling.cancel()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def kill_runs(self) -> None:
        """Start runs, kill them, resume them, and replay them."""
        number = 0
        while not self.over:
            number += 1
            work, before, calls = self.work / f"killed-{number}", 0, 0
            command = run_command_line(work, number)
            for _ in range(KILLS):
                process = await asyncio.create_subprocess_exec(
                    *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), float(self.rng.uniform(2.5, 8.0)))
                with suppress(ProcessLookupError):
                    process.kill()
                    self.counts["runs killed"] += process.returncode is None
                await process.wait()
                before, calls = self._check_kept(work, before, calls)
                if self.over:
                    return
            if await self._resume(command):
                self._check_run(next((work / "out").iterdir()), f"run {number} after its kills")
                await self._replay(work, number)
            shutil.rmtree(work)

    def _check_kept(self, work: Path, before: int, calls: int) -> tuple[int, int]:
        """Check the disk after a kill. Returns the numbers of good episodes and of calls."""
        file = next(iter(work.glob("out/*/episodes.jsonl")), None)
        lines = file.read_bytes().split(b"\n")[:-1] if file else []
        kept = sum(json.loads(line)["status"] != "failed" for line in lines)
        now = count_calls(work / "calls.sqlite")
        if kept < before:
            self.problem("lost", f"{before - kept} episodes by a kill")
        if now < calls:
            self.problem("lost", f"{calls - now} recorded calls by a kill")
        return kept, now

    async def _resume(self, command: list[str]) -> bool:
        """Resume a run until no episode has failed."""
        for _ in range(20):
            process = await asyncio.create_subprocess_exec(
                *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            said = (await process.communicate())[1]
            self.counts["runs resumed"] += 1
            if process.returncode == 0:
                return True
            if process.returncode != 3:
                self.problem("lost", f"a resumed run: {process.returncode} {said[-300:]!r}")
                return False
        self.problem("lost", "a run that fails 20 times")
        return False

    async def _replay(self, work: Path, number: int) -> None:
        command = run_command_line(work, number, mode="replay")
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        code = await process.wait()
        first, again = (answers(next((work / name).iterdir())) for name in ("out", "replay"))
        if code or first != again:
            self.problem("lost", f"calls of run {number}: its replay differs (exit code {code})")
        self.counts["runs replayed alike"] += not code and first == again

    def _check_run(self, folder: Path, name: str) -> None:
        """Check that a run has all episodes, once each."""
        found = Counter(qid for qid, _ in answers(folder))
        if len(found) < RUN:
            self.problem("lost", f"{RUN - len(found)} episodes of {name}")
        if found.total() > len(found):
            self.problem("double", f"{found.total() - len(found)} episodes of {name}")
        self.counts["episodes of runs"] += len(found)

    async def watch(self, name: str, pid: int) -> None:
        """Measure a process every second."""
        rows = self.samples.setdefault(name, [])
        start = time.monotonic()
        while not self.over:
            with suppress(OSError, AssertionError):
                files = [_link(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
                sockets = sum(one.startswith("socket:") for one in files)
                at = (time.monotonic() - start) / self.seconds
                rows.append((at, memory_mb(pid), len(files), sockets))
            await asyncio.sleep(1.0)

    async def run(self, url: str, pid: int) -> None:
        """Run all activities for the whole duration."""
        self.url, self.ends = url, time.monotonic() + self.seconds
        players = [self.play(number) for number in range(8)]
        await asyncio.gather(
            self.watch("server", pid), self.evaluate(), self.kill_runs(), self.kill_players(),
            *players,
        )  # fmt: skip

    def verdict(self) -> bool:
        """Print the table. Returns whether all checks passed."""
        good = True
        print(f"\n{'in each third of the time':34}{'first':>9}{'second':>9}{'last':>9}")
        for name, rows in self.samples.items():
            for column, (what, pick) in enumerate(MEASURED.items(), start=1):
                first, second, last = (
                    pick([r[column] for r in rows if i / 3 <= r[0] < (i + 1) / 3]) for i in range(3)
                )
                slack = MOST_MEMORY * second if column == 1 else max(2, 0.1 * second)
                held = abs(last - second) <= slack if column == 1 else last - second <= slack
                good = good and held
                print(f"{f'{name}, {what}':34}{first:9.1f}{second:9.1f}{last:9.1f}"
                      f"  {'held' if held else 'GROWN'}")  # fmt: skip
        for name in sorted({*self.counts} - {"lost", "double"}):
            print(f"{name:34}{self.counts[name]:9,}")
        for name in ("lost", "double"):
            print(f"{name:34}{self.counts[name]:9,}")
        return good and not self.counts["lost"] and not self.counts["double"]


async def _reset(socket: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Open a question. Empty if the agent for the first clip failed with a timeout."""
    try:
        return await _ask(socket, "reset", {"seed": int(rng.integers(10**6))})
    except _Refused as error:
        if "total_timeout_s" not in str(error):
            raise
        return {}


class _Refused(Exception):
    """The server answered with an error."""


async def _ask(socket: Any, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    await socket.send_json({"type": kind, "data": data})
    reply: dict[str, Any] = await socket.receive_json(timeout=WAIT_S)
    if reply["type"] != "observation":
        raise _Refused(str(reply))
    return dict(reply["data"])


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def answers(folder: Path) -> list[tuple[Any, Any]]:
    """The question and answer of each episode of a run."""
    lines = (folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    return [(record["qid"], record.get("choice")) for record in map(json.loads, lines)]


def count_calls(file: Path) -> int:
    """The number of calls in a recording. Its file is also checked."""
    if not file.exists():
        return 0
    database = sqlite3.connect(file)
    try:
        (state,) = database.execute("PRAGMA integrity_check").fetchone()
        assert state == "ok", state
        return int(database.execute("SELECT count(*) FROM calls").fetchone()[0])
    except sqlite3.OperationalError:  # killed before the table was made
        return 0
    finally:
        database.close()


def options(folder: Path) -> list[str]:
    """The options that server and runs share: the data, and agents over the network."""
    return [
        "--dataset", str(DATASET), "--frames-root", str(folder / "frames"),
        "--split", "val", "--grounding", "openai:ground@mock", "--vision",
        "openai:vision@mock,frames=2", "--recording-file",
    ]  # fmt: skip


def run_arguments(work: Path, seed: int, mode: str = "reuse") -> list[str]:
    """The evaluator's arguments for one run."""
    return [
        *options(work.parent), str(work / "calls.sqlite"), "--recording", mode,
        "--policy", "openai:master@mock", "--limit", str(RUN), "--shuffle", str(seed),
        "--concurrency", "8", "--stop-after-failures", "0",
        "--out", str(work / ("replay" if mode == "replay" else "out")),
    ]  # fmt: skip


def run_command_line(work: Path, seed: int, mode: str = "reuse") -> list[str]:
    """The command of one run."""
    return [sys.executable, str(ROOT / "eval" / "run_policy.py"), *run_arguments(work, seed, mode)]


def evaluator(work: Path) -> int:
    """Play run after run in this process, and print each one's folder."""
    from eval.run_policy import main as play

    said = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    number, earlier = 10_000, None
    while True:
        number += 1
        folder = work / f"run-{number}"
        code = play(run_arguments(folder, number))
        found = next((folder / "out").iterdir())
        said.write(json.dumps({"folder": str(found), "code": code}) + "\n")
        said.flush()
        if earlier:
            shutil.rmtree(earlier)
        earlier = folder if number > 10_001 else None


def player(url: str) -> int:
    """Play at the server until killed."""
    soak = Soak(Path(), 3600)
    soak.url = url
    asyncio.run(soak.play(os.getpid()))
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=1800)
    add("--mock", type=Path, default=DEFAULT_MOCK, help="the mock server's script")
    add("--role", choices=("player", "evaluator"), help=argparse.SUPPRESS)
    add("--url", help=argparse.SUPPRESS)
    add("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        return player(args.url) if args.role == "player" else evaluator(args.work)
    print(f"{date.today()}, {os.cpu_count()} cores, {args.seconds:.0f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_frames(work, DATASET, (72, 128))
        soak = Soak(work, args.seconds)
        storm = serve(args.mock, latency=LATENCY_S, sigma=0.5, faults=FAULTS, storms=STORMS)
        with storm as upstream:
            place = {"base_url": upstream.url, "max_in_flight": 8, "total_timeout_s": 8.0}
            file = work / "endpoints.yaml"
            file.write_text(yaml.safe_dump({"endpoints": {"mock": place}}), encoding="utf-8")
            os.environ["LONGVIDEO_ENDPOINTS"] = str(file)
            command = [sys.executable, "-m", "longvideo_env.commands.main", "serve"]
            recording = [str(work / "served.sqlite"), "--recording", "reuse"]
            with server([*command, *options(work), *recording]) as (url, pid):
                asyncio.run(soak.run(url, pid))
                os.kill(pid, signal.SIGTERM)
        soak.counts["calls recorded by the server"] = count_calls(work / "served.sqlite")
        return 0 if soak.verdict() else 1


if __name__ == "__main__":
    sys.exit(main())
