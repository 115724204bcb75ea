"""Format numbers for tables."""

from __future__ import annotations

from collections.abc import Sequence


def format_number(value: float | None, digits: int = 3) -> str:
    """A number for a table. None is a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def format_interval(interval: Sequence[float] | None) -> str:
    """A confidence interval for a table."""
    return "-" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"
