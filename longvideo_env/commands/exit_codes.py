"""The exit codes of every command, in one place."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_ERROR = 1
"""An error: a missing or broken input, a full disk, or a server that does not answer."""
EXIT_USAGE = 2
"""The command line is wrong: an unknown option or an invalid value."""
EXIT_FINDINGS = 3
"""The command ran to its end, but episodes failed, or it found problems."""
EXIT_INTERRUPTED = 130


def exit_code_line(findings: str = "") -> str:
    """The line about exit codes in `--help`.

    Args:
        findings: When this command ends with `EXIT_FINDINGS`. Empty if it never does.
    """
    third = f"{EXIT_FINDINGS} {findings}; " if findings else ""
    return (
        f"Exit codes: {EXIT_DONE} done; {EXIT_ERROR} an error; {EXIT_USAGE} wrong usage; "
        f"{third}{EXIT_INTERRUPTED} interrupted."
    )
