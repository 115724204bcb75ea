"""Bundles with a killed writer: the file is the old one or the new one."""

import sys
from pathlib import Path

import numpy as np
from killing import kill_at_random

from eval.bundle.contents import digest_of, hash_of, read_bundle, seal, write_bundle

PATH = Path(sys.argv[1]) / "paper.zip"


def write(n: int) -> None:
    data = np.random.default_rng(n).bytes(200_000)
    files = {"number": str(n).encode(), "data": data, "more": data.hex().encode()}
    write_bundle(PATH, seal({"runs": []}, files), files)


def check(n: int) -> int:
    found = read_bundle(PATH)
    assert found.manifest["digest"] == digest_of(found.manifest)
    for name, content in found.files.items():
        assert hash_of(content) == found.manifest["files"][name]["sha256"]
    return int(found.files["number"])


kill_at_random(write, check, int(sys.argv[2]))
