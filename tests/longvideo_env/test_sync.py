import asyncio
import subprocess
import sys

import pytest

from longvideo_env.sync import run_blocking

# In a separate process, so that a hang does not stop the tests.
NOTEBOOK = """
import asyncio
from longvideo_env.sync import run_blocking

async def leave():
    raise {error}

async def fine():
    return 7

async def cell():
    try:
        run_blocking(leave())
    except {error}:
        return run_blocking(fine())

print(asyncio.run(cell()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "ZeroDivisionError"])
def test_whatever_ends_a_coroutine_reaches_who_waits_and_the_loop_goes_on(error):
    script = NOTEBOOK.format(error=error)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "7\n", done.stderr


def test_it_works_with_a_running_loop_and_without():
    async def fine():
        return 7

    async def cell():
        return run_blocking(fine())

    assert run_blocking(fine()) == asyncio.run(cell()) == 7
