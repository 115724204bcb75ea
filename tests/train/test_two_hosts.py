"""`accelerate launch --num_machines 2` over a private network, killed and resumed.

Two hosts on one machine: network namespaces joined by a pair of virtual network cards (Linux, as
root). They reach only each other, not the machine's network or its loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600

ADDRESSES = ("10.99.7.1", "10.99.7.2")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts() -> Iterator[list[tuple[list[str], dict[str, str]]]]:
    """For each host, the words before a command, and its additional environment variables.

    Raises:
        OSError, subprocess.CalledProcessError: The hosts cannot be made here.
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
        # gloo binds to the address of the host's name. It is not one of these addresses.
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
    """Run a command of `accelerate launch` on both hosts. Returns exit codes and output.

    If one host fails, the other has a minute before it is killed.
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


def losses(folder: Path) -> dict[int, float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["step"]: record["loss"] for record in map(json.loads, lines) if "loss" in record}


def test_two_machines_train_and_go_on_after_one_was_killed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(out: str, *more: str) -> list[str]:
        return [
            *(sys.executable, "-m", "accelerate.commands.launch"),
            *("--config_file", str(ROOT / "configs/accelerate/cpu_zero2.yaml")),
            *("--num_machines", "2", "--machine_rank", "{rank}", "--main_process_ip", "{first}"),
            *("--main_process_port", "29500", str(ROOT / "tests/train/two_hosts_grpo.py")),
            *("--config", str(ROOT / "configs/grpo/tiny.yaml"), "--disable_tqdm", "true"),
            *("--model_name_or_path", str(tiny_model), "--output_dir", str(tmp_path / out)),
            *("--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2"),
            *("--learning_rate", "0.01", *more),
        ]

    try:
        with two_hosts() as hosts:
            whole = run_on_both(hosts, command("whole"), TIMEOUT_S)
            monkeypatch.setenv("DIES_AT", "3")
            killed = run_on_both(hosts, command("killed"), TIMEOUT_S)
            monkeypatch.delenv("DIES_AT")
            resume = command("killed", "--resume_from_checkpoint", "true")
            again = run_on_both(hosts, resume, TIMEOUT_S)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    assert [code for code, _ in whole] == [0, 0], [said[-2000:] for _, said in whole]
    assert all(code for code, _ in killed), "the host that was left over went on by itself"
    assert [code for code, _ in again] == [0, 0], [said[-2000:] for _, said in again]
    assert sorted(losses(tmp_path / "whole")) == [1, 2, 3, 4]
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
