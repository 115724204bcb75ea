"""What happens to an invalid row: loading stops there, or the row is left out and listed."""

from __future__ import annotations

from longvideo_env.errors import InvalidRowError

MEND_ROW = "correct the row, or load with skip_invalid=True to leave it out."


class Rejects:
    """Takes the errors of invalid rows.

    Args:
        skip_invalid: Collect the errors instead of raising the first.
    """

    def __init__(self, skip_invalid: bool) -> None:
        """Start without errors."""
        self.skip_invalid = skip_invalid
        self.errors: list[InvalidRowError] = []

    def add(self, error: InvalidRowError, cause: BaseException | None = None) -> None:
        """Raise the error, or keep it without its traceback, which would keep the file alive."""
        if not self.skip_invalid:
            raise error from cause
        self.errors.append(error.with_traceback(None))
