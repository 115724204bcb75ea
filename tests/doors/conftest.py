import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `loopback`
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@contextmanager
def running(*command: str, **environ: str) -> Iterator[str]:
    """A server in its own process. It prints its URL and is stopped at the end."""
    process = subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | environ,
    )
    assert process.stdout is not None
    try:
        url = next(
            (m[0] for line in process.stdout if (m := re.search(r"http://[\d.]+:\d+", line))), None
        )
        assert url is not None, f"{command} did not start"
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of `longvideo-env serve`."""
    with running(str(BIN / "longvideo-env"), "serve", "--split", "test") as url:
        yield url


@pytest.fixture
def start() -> Callable[..., Any]:
    """Start another server."""
    return running
