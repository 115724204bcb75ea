"""A file with a killed writer: it is the old one or the new one."""

import sys
from pathlib import Path

from killing import kill_at_random

from longvideo_env.records.files import write_text

PATH = Path(sys.argv[1]) / "summary.json"


def write(n: int) -> None:
    write_text(PATH, f"{n}\n" * 40_000)


def check(n: int) -> int:
    first, *others = PATH.read_text(encoding="utf-8").splitlines()
    assert others == [first] * 39_999
    return int(first)


kill_at_random(write, check, int(sys.argv[2]))
