"""Kill a writer with SIGKILL at random moments, many times. Its imports run only once.

    kill_at_random(write, check, kills)

`write` is called in a forked child again and again, each time with the next number. The child
announces each finished number. After each kill, `check(n)` gets the last announced number and
returns the last one that it found.
"""

import os
import signal
import time
from collections.abc import Callable

import numpy as np


def kill_at_random(write: Callable[[int], None], check: Callable[[int], int], kills: int) -> None:
    rng, number, took = np.random.default_rng(0), 0, 0.0
    for kill in range(kills + 1):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.close(reading)
                for n in range(number + 1, 10**9):
                    write(n)
                    os.write(writing, n.to_bytes(8, "big"))
            finally:
                os._exit(1)
        os.close(writing)
        if kill:  # anywhere in the first three writes
            time.sleep(float(rng.uniform(0.0, 3 * took)))
        else:
            start = time.perf_counter()
            assert os.read(reading, 8), "the writer ended by itself"
            assert os.read(reading, 8)
            took, number = (time.perf_counter() - start) / 2, 2
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"the writer ended by itself before kill {kill}"
        while said := os.read(reading, 8):
            number = int.from_bytes(said, "big")
        os.close(reading)
        found = check(number)
        assert found >= number, f"kill {kill}: {number} was finished, but {found} is there"
        number = found
    print(f"{kills} kills, {number} written, {took * 1000:.0f} ms each, 0 lost, 0 by half")
