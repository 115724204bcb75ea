"""Keep an error the last line on the screen, also under `accelerate launch`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_REPEAT = """
import os, select, sys
try:
    select.select([os.pidfd_open(int(sys.argv[1]))], [], [], 60)
except OSError:  # it has ended already
    pass
sys.stderr.write(sys.argv[2] + "\\n")
"""


def repeat_below_launcher(line: str) -> None:
    """Write an error again after the launcher has ended, because it adds its own traceback.

    A small process waits for the launcher to end. It is started only under `accelerate launch` on
    Linux, and not with `--quiet`.
    """
    launcher = os.getppid()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if hasattr(os, "pidfd_open") and is_loud(command_line(launcher), several=several):
        subprocess.Popen(
            [sys.executable, "-S", "-c", _REPEAT, str(launcher), line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )


def command_line(pid: int) -> list[str]:
    """The command line of a process. Empty if it cannot be read."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.split("\0")


def is_loud(command: list[str], *, several: bool = False) -> bool:
    """Whether a command is `accelerate launch` and writes a traceback when a process fails.

    Args:
        command: The words of the command.
        several: Whether it started several processes. `--quiet` then has no effect.
    """
    names = [Path(word).name for word in command[:3]]
    launches = "accelerate-launch" in names or ("accelerate" in names and "launch" in names)
    script = next((i for i, word in enumerate(command) if i > 1 and word.endswith(".py")), None)
    return launches and (several or not {"-q", "--quiet"} & set(command[:script]))
