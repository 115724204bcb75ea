"""Two hosts on one machine: network namespaces joined by a pair of virtual cards (Linux, root).

They see each other and nothing else: not the machine's own network, nor its loopback.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

ADDRESSES = ("10.99.7.1", "10.99.7.2")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts() -> Iterator[list[tuple[list[str], dict[str, str]]]]:
    """For each host, the words to put before a command, and what to add to its environment.

    Raises:
        OSError, subprocess.CalledProcessError: They cannot be made here.
    """
    if shutil.which("ip") is None:
        raise OSError("the command ip (iproute2) is not installed.")
    names = [f"lv{os.getpid()}{host}" for host in "ab"]
    cards = [f"v{os.getpid()}{host}" for host in "ab"]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", cards[0], "type", "veth", "peer", "name", cards[1])
        for name, card, address in zip(names, cards, ADDRESSES, strict=True):
            _ip("link", "set", card, "netns", name)
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", card)
            _ip("-n", name, "link", "set", card, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        # gloo binds to the address of the host's name, which is not one of these.
        yield [
            (["ip", "netns", "exec", name], {"GLOO_SOCKET_IFNAME": card})
            for name, card in zip(names, cards, strict=True)
        ]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def run_on_both(
    hosts: Sequence[tuple[list[str], dict[str, str]]], command: Sequence[str], timeout_s: float
) -> list[tuple[int, str]]:
    """Run a command of `accelerate launch` on both, and wait; exit codes and what they said.

    When one fails the other is given a minute, and is then killed.
    """
    started = []
    for rank, (before, more) in enumerate(hosts):
        words = [w.format(rank=rank, first=ADDRESSES[0]) for w in command]
        started.append(
            subprocess.Popen(
                [*before, *words],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", **more},
            )
        )  # fmt: skip
    ended = []
    for process in started:
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        ended.append((process.returncode, said))
        timeout_s = 60 if process.returncode else timeout_s
    return ended
