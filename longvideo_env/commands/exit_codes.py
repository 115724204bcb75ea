"""The exit codes of every command, in one place."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_ERROR = 1
"""A named error: an input that is missing or broken, a full disk, a server that does not answer."""
EXIT_USAGE = 2
"""The command line is wrong: an unknown option, or a value that has no meaning."""
EXIT_FINDINGS = 3
"""The command ran to its end, and not all is well: episodes failed, or something was found."""
EXIT_INTERRUPTED = 130


def exit_code_line(findings: str = "") -> str:
    """What `--help` says of exit codes.

    Args:
        findings: When this command ends with `EXIT_FINDINGS`; empty: never.
    """
    third = f"{EXIT_FINDINGS} {findings}; " if findings else ""
    return (
        f"Exit codes: {EXIT_DONE} done; {EXIT_ERROR} an error; {EXIT_USAGE} wrong usage; "
        f"{third}{EXIT_INTERRUPTED} interrupted."
    )
