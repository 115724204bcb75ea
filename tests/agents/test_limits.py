import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("openai")
pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parent))

from hostile_server import upstream
from test_client import ask

from agents.api.client import ChatClient
from agents.api.endpoints import Endpoint
from longvideo_env.errors import EndpointError, SpecError

GIGABYTE = 1_000_000_000

MANY = """
import asyncio, sys
from pathlib import Path
from agents.api.client import ChatClient
from agents.api.endpoints import Endpoint
from longvideo_env.errors import EndpointError

HELLO = [{"role": "user", "content": "hi"}]

async def main(client):
    calls = [client.chat("m", HELLO, role="master") for _ in range(16)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, EndpointError) for one in found), found[0]
    print(found[0])

for url in sys.argv[1:]:
    asyncio.run(main(ChatClient(Endpoint("bad", url, attempts=2, total_timeout_s=20))))
# The system's own count: that of getrusage begins with what the parent process had.
(peak,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
print(int(peak.split()[1]) * 1024)
"""


def one(url, **options):
    options = {"attempts": 2, "total_timeout_s": 5.0, **options}
    return ask(ChatClient(Endpoint("bad", url, **options)))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_many_large_replies_at_once_end_under_a_gigabyte():
    faults = ("gzip bomb", "gzip bomb as an error", "30 MB", "endless")
    with ExitStack() as stack:
        urls = [stack.enter_context(upstream(fault)) for fault in faults]
        done = subprocess.run(
            [sys.executable, "-c", MANY, *urls],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    *said, peak = done.stdout.splitlines()
    assert ["max_reply_bytes=2,000,000" in line for line in said] == [True] * len(faults)
    assert ["when unpacked" in line for line in said] == [True, True, False, False]
    assert int(peak) < GIGABYTE


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("brotli", "content-encoding 'br'"),
        ("too many tokens", "1,000,000,000 tokens, more than max_reply_tokens=100,000"),
        ("more tokens than said", "106,250 tokens, more than"),
        ("no JSON", "expected a chat completion"),
        ("content is no text", "expected a chat completion"),
        ("torn gzip", "expected a chat completion"),
        ("damaged gzip", "damaged"),
        ("long header", "after 2 attempts"),
    ],
)
def test_each_fault_is_named(fault, reason):
    with upstream(fault) as url, pytest.raises(EndpointError) as caught:
        one(url)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_server_that_drips_ends_with_the_total_time_and_counts_as_broken():
    with upstream("drip") as url:
        client = ChatClient(
            Endpoint("bad", url, total_timeout_s=1.0, down_after_failures=2, down_after_s=0.01)
        )
        start = time.monotonic()
        for _ in range(2):
            with pytest.raises(EndpointError, match="no reply within total_timeout_s=1"):
                ask(client)
        with pytest.raises(EndpointError, match="is down"):
            ask(client)
        assert time.monotonic() - start < 4


def test_strange_counts_cost_no_reply():
    with upstream("strange counts") as url:
        reply = one(url)
    assert (reply.text, reply.usage.prompt_tokens, reply.usage.completion_tokens) == ("ok", 0, 0)


def test_a_packed_reply_is_read():
    with upstream("packed") as url:
        assert one(url).text == "ok"


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "many"])
@pytest.mark.parametrize("name", ["max_reply_bytes", "max_reply_tokens", "total_timeout_s"])
def test_a_limit_is_a_number(name, value):
    with pytest.raises(SpecError, match=f"{name} must be a number above 0"):
        Endpoint("e", "http://h/v1", **{name: value})
