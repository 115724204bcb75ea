"""An upstream for measurements: the loopback mock server, with a master of eight calls.

    python benchmarks/upstream.py --mock ../shared/tools/mock_openai.py --port 8123

The mock's master counts `<New_clip>` blocks to know whether it has grounded. This project opens a
video with such a block, so the mock's master would never ground. Here the master counts its own
turns, which this project sends as assistant messages: look, ground, look, answer. With the
grounding of the first clip these are eight calls per question, two of them with frames. Everything
else is the mock's own code.

The mock's environment variables LATENCY, SIGMA and FAULTS work here too. STORMS is the share of
replies with further faults: a reset connection, a byte every 0.2 s without an end, and JSON of the
wrong shape.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DEFAULT_MOCK = Path(__file__).resolve().parents[2] / "shared" / "tools" / "mock_openai.py"
CALLS_A_QUESTION = 8
TURNS = (
    "<reasoning>I must see it.</reasoning><search>What is on the table, and who is there?</search>",
    "<reasoning>Not here.</reasoning><request_grounding>another scene</request_grounding>",
    "<reasoning>Look again.</reasoning><search>Who holds the mug?</search>",
)


def load_mock(path: Path) -> Any:
    """The mock server's module, with another master."""
    spec = importlib.util.spec_from_file_location("mock_openai", path)
    assert spec is not None
    assert spec.loader is not None
    mock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mock)
    tools = mock.reply

    def reply(body: dict[str, Any]) -> str:
        model = body.get("model", "")
        if "ground" in model or "vision" in model:
            return str(tools(body))
        mock.STATS["master"] += 1
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        if turn < len(TURNS):
            return TURNS[turn]
        text, _ = mock.flatten(body)
        question = re.search(r"question: *(.*)", text, re.IGNORECASE)
        label = mock.digest(question[1].strip() if question else text[:200], 5)
        return f"<reasoning>Enough.</reasoning><answer>a{label}</answer>"

    mock.reply = reply
    storms, rng = float(os.environ.get("STORMS", 0)), np.random.default_rng(1)
    calm = mock.handle
    if storms:
        mock.handle = lambda reader, writer: calm(reader, StormyWriter(writer, storms, rng))
    return mock


class StormyWriter:
    """A connection to a client. A share of its replies are replaced by faults."""

    def __init__(self, writer: asyncio.StreamWriter, share: float, rng: np.random.Generator):
        self._writer, self._share, self._rng = writer, share, rng
        self._reply = b""

    def write(self, reply: bytes) -> None:
        """Take a reply. `drain` sends it, or a fault."""
        self._reply = reply

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def drain(self) -> None:
        """Send the reply, or a fault."""
        draw = self._rng.random() / self._share
        if draw < 0.4:
            connection = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
            raise ConnectionResetError
        if draw < 0.5:
            self._writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                self._writer.write(b" ")
                await self._writer.drain()
                await asyncio.sleep(0.2)
        wrong = b'{"choices": [{"message": {"content": [7]}}], "usage": "much"}'
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
        self._writer.write(self._reply if draw >= 1 else head % len(wrong) + wrong)
        await self._writer.drain()


@dataclass(frozen=True)
class Upstream:
    """A running server.

    Attributes:
        url: Its base URL.
        port: Its port on loopback.
    """

    url: str
    port: int

    def stats(self) -> dict[str, int]:
        """Its counters."""
        import json

        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=10) as reply:
            return dict(json.loads(reply.read()))


@contextmanager
def serve(
    mock: Path = DEFAULT_MOCK,
    latency: float = 0.0,
    sigma: float = 0.0,
    faults: float = 0.0,
    storms: float = 0.0,
) -> Iterator[Upstream]:
    """Run the server in its own process, and stop it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"LATENCY": latency, "SIGMA": sigma, "FAULTS": faults, "STORMS": storms}
    command = [sys.executable, str(Path(__file__)), "--mock", str(mock), "--port", str(port)]
    environment = os.environ | {name: str(value) for name, value in settings.items()}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield Upstream(f"http://127.0.0.1:{port}/v1", port)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the upstream did not start")


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mock", type=Path, default=DEFAULT_MOCK, help="The mock server's script.")
    parser.add_argument("--port", type=int, default=8123, help="Port on loopback. Default: 8123.")
    options = parser.parse_args()
    mock = load_mock(options.mock)
    mock.PORT = options.port
    asyncio.run(mock.main())


if __name__ == "__main__":
    main()
