"""Measure steps per second, latency and memory of `longvideo-env serve`, with offline tools.

    python benchmarks/serve.py
    python benchmarks/serve.py --sessions 10000
    .venv-doors/bin/python benchmarks/serve.py --client openenv --compare

The server runs in its own process, with `mini`, split test. In this process `--clients` players on
one event loop, each with a WebSocket, play episodes of five turns (look, ground, look, ground,
answer) as fast as replies arrive. Only steps are counted, but the time includes resets. The latency
of a step is the time that its client waits.

`--client openenv` plays with OpenEnv's own `GenericEnvClient`. `--client aiohttp` (the default) is
lighter and leaves more of two cores to the server. `--compare` also plays against the same
environment behind OpenEnv's `create_app` and uvicorn, and prints the ratio.

`--sessions N` opens N sessions, resets each, takes a step, and drops it. Every second session is
closed, the others are aborted. The server's memory is printed after a tenth of the sessions and at
the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientSession

TURNS = (
    "<reasoning>I must see it.</reasoning><search>What is on the table?</search>",
    "<reasoning>Not here.</reasoning><request_grounding>another scene</request_grounding>",
    "<reasoning>Look again.</reasoning><search>Who holds the mug?</search>",
    "<reasoning>Not here.</reasoning><request_grounding>a person</request_grounding>",
    "<reasoning>Enough.</reasoning><answer>a1</answer>",
)
OWN = [sys.executable, "-m", "longvideo_env.commands.main", "serve", "--split", "test"]
Player = Callable[[str], Any]


@contextmanager
def server(command: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Run a server in its own process. Gives its URL and process id."""
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.search(r"http://\S+:\d+", line):
                yield match[0].rstrip("."), process.pid
                break
        else:
            raise SystemExit(f"the server did not start: {' '.join(command)}")
    finally:
        process.terminate()
        process.wait(timeout=10)


def serve_by_create_app() -> None:
    """Serve OpenEnv's own application over `gym.make`, for comparison. Needs openenv."""
    import socket
    import uuid

    import gymnasium as gym
    import uvicorn
    from openenv.core.env_server import Action, Environment, Observation, State, create_app

    class Reply(Action):
        text: str

    class Shown(Observation):
        text: str

    class Theirs(Environment[Reply, Shown, State]):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self._env = gym.make(
                "longvideo_env:LongTVQA-v0", split="test", disable_env_checker=True
            )
            self._state = State()

        def reset(self, seed: int | None = None, **_: Any) -> Shown:
            text, _info = self._env.reset(seed=seed)
            self._state = State(episode_id=uuid.uuid4().hex)
            return Shown(text=text)

        def step(self, action: Reply, **_: Any) -> Shown:
            text, reward, terminated, truncated, _info = self._env.step(action.text)
            self._state.step_count += 1
            return Shown(text=text, reward=float(reward), done=terminated or truncated)

        @property
        def state(self) -> State:
            return self._state

    app = create_app(Theirs, Reply, Shown, env_name="longtvqa", max_concurrent_envs=2048)
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])


class AiohttpPlayer:
    """A player with a light client."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def _ask(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        await self._socket.send_json({"type": kind, "data": data})
        reply: dict[str, Any] = await self._socket.receive_json()
        assert reply["type"] == "observation", reply
        return reply["data"]  # type: ignore[no-any-return]

    async def reset(self, seed: int) -> None:
        """Open a question."""
        await self._ask("reset", {"seed": seed})

    async def step(self, text: str) -> bool:
        """Take a turn. Returns whether the episode is over."""
        return bool((await self._ask("step", {"text": text}))["done"])


class OpenEnvPlayer:
    """A player with OpenEnv's own client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def reset(self, seed: int) -> None:
        """Open a question."""
        await self._client.reset(seed=seed)

    async def step(self, text: str) -> bool:
        """Take a turn. Returns whether the episode is over."""
        return bool((await self._client.step({"text": text})).done)


@asynccontextmanager
async def by_aiohttp(url: str) -> AsyncIterator[AiohttpPlayer]:
    """A player at a server, with a light client."""
    async with ClientSession() as http, http.ws_connect(f"{url}/ws") as socket:
        yield AiohttpPlayer(socket)


@asynccontextmanager
async def by_openenv(url: str) -> AsyncIterator[OpenEnvPlayer]:
    """A player at a server, with OpenEnv's client."""
    from openenv import GenericEnvClient

    async with GenericEnvClient(base_url=url, message_timeout_s=300) as client:
        yield OpenEnvPlayer(client)


async def load(
    url: str, pid: int, player: Player, clients: int, seconds: float
) -> tuple[float, list[float], tuple[float, float]]:
    """Play for some seconds, after all players have connected.

    Returns:
        Steps per second; the seconds of each step; CPU seconds of the server and of this process.
    """
    took: list[float] = []
    start = asyncio.Event()
    ends = 0.0

    async def play(number: int) -> None:
        async with player(url) as one:
            await one.reset(number)
            ready.release()
            await start.wait()
            seed = number
            while time.perf_counter() < ends:
                seed += clients
                await one.reset(seed)
                for text in TURNS:
                    began = time.perf_counter()
                    done = await one.step(text)
                    took.append(time.perf_counter() - began)
                    if done or time.perf_counter() >= ends:
                        break

    ready = asyncio.Semaphore(0)
    playing = [asyncio.ensure_future(play(number)) for number in range(clients)]
    for _ in playing:
        await ready.acquire()
    theirs, own, began = cpu_s(pid), time.process_time(), time.perf_counter()
    ends = began + seconds
    start.set()
    await asyncio.gather(*playing)
    rate = len(took) / (time.perf_counter() - began)
    return rate, took, (cpu_s(pid) - theirs, time.process_time() - own)


def measure(name: str, command: Sequence[str], args: argparse.Namespace) -> float:
    """Print the figures of a server. Returns its steps per second."""
    player = by_openenv if args.client == "openenv" else by_aiohttp
    with server(command) as (url, pid):
        rate, took, used = asyncio.run(load(url, pid, player, args.clients, args.seconds))
    p50, p99 = np.percentile(np.asarray(took) * 1000, [50, 99])
    print(
        f"{name}: {rate:,.0f} steps per second from {args.clients} clients ({args.client}), "
        f"{len(took):,} steps; latency p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
        f"most {max(took) * 1000:.0f} ms; CPU per step: server "
        f"{used[0] / len(took) * 1000:.2f} ms, clients {used[1] / len(took) * 1000:.2f} ms"
    )
    return rate


def cpu_s(pid: int) -> float:
    """The CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """The memory of a process (resident set)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


async def drop(url: str, n: int, at_once: int) -> None:
    """Open, use and drop sessions. Every second one is aborted."""
    numbers = iter(range(n))

    async def one_after_the_other() -> None:
        async with ClientSession() as http:
            for number in numbers:
                socket = await http.ws_connect(f"{url}/ws")
                player = AiohttpPlayer(socket)
                await player.reset(number)
                await player.step(TURNS[0])
                if number % 2:
                    await socket.close()
                else:
                    transport = socket.get_extra_info("socket")
                    assert transport is not None
                    socket._response.connection.transport.abort()

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))


def sessions(n: int, at_once: int) -> None:
    """Print the server's memory while sessions come and go."""
    with server(OWN) as (url, pid):
        begun = memory_mb(pid)
        asyncio.run(drop(url, n // 10, at_once))
        early = memory_mb(pid)
        asyncio.run(drop(url, n - n // 10, at_once))
        late = memory_mb(pid)
    print(
        f"memory of the server: {begun:.1f} MB at first, {early:.1f} MB after {n // 10:,} sessions "
        f"opened and dropped, {late:.1f} MB after {n:,} ({late - early:+.1f} MB)"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--clients", type=int, default=64)
    add("--seconds", type=float, default=10.0)
    add("--client", choices=("aiohttp", "openenv"), default="aiohttp")
    add("--compare", action="store_true", help="also play against create_app (needs openenv)")
    add("--sessions", type=int, default=0, help="measure memory over this many sessions instead")
    add("--create-app", action="store_true", help=argparse.SUPPRESS)
    add("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.create_app:
        serve_by_create_app()
    elif args.sessions:
        sessions(args.sessions, args.clients)
    else:
        ours = measure("longvideo-env serve", OWN, args)
        if args.compare:
            command = [sys.executable, __file__, "--create-app"]
            theirs = measure("create_app, uvicorn", command, args)
            print(f"ratio: {ours / theirs:.1f}")


if __name__ == "__main__":
    main()
