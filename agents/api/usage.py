"""Usage of models in tokens and money, and the table of prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any

import yaml

from longvideo_env.errors import SpecError

_MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens.

    Attributes:
        input: Price of request tokens.
        output: Price of reply tokens.
        cached: Price of request tokens from the provider's cache; by default as `input`.
    """

    input: float
    output: float
    cached: float | None = None


@dataclass(frozen=True)
class Usage:
    """Usage of one or several calls.

    Attributes:
        requests: Number of paid replies.
        prompt_tokens: Tokens of the requests, including cached ones.
        cached_tokens: Request tokens from the provider's cache.
        completion_tokens: Tokens of the replies, including reasoning.
        reasoning_tokens: Reply tokens of hidden reasoning.
        cost_usd: Cost in US dollars. None if a price is unknown.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        # A sum with an unknown cost is unknown, unless that part used no tokens.
        used = [usage.cost_usd for usage in (self, other) if usage.requests]
        known = [cost for cost in used if cost is not None]
        total = sum(known) if known and len(known) == len(used) else None
        return Usage(**counts, cost_usd=total)

    def record(self) -> dict[str, Any]:
        """Plain values. Zero and unknown values are left out, except tokens."""
        always = ("requests", "prompt_tokens", "completion_tokens")
        values = {name: getattr(self, name) for name in _NAMES}
        return {k: v for k, v in values.items() if k in always or v}


_NAMES = tuple(f.name for f in fields(Usage))
_COUNTS = tuple(name for name in _NAMES if name != "cost_usd")


def usage_of(record: Mapping[str, Any]) -> Usage:
    """Rebuild the usage from plain values. Other keys are ignored."""
    return Usage(**{name: record[name] for name in _NAMES if name in record})


def cost_of(price: Price | None, prompt: int, cached: int, completion: int) -> float | None:
    """Cost in US dollars. None without a price."""
    if price is None:
        return None
    cached_price = price.input if price.cached is None else price.cached
    dollars = (prompt - cached) * price.input + cached * cached_price + completion * price.output
    return dollars / _MILLION


def read_prices(table: object, where: str) -> dict[str, Price]:
    """Read a table of prices from YAML.

    Raises:
        SpecError: The value is not such a table.
    """
    if not isinstance(table, dict):
        raise SpecError(f"{where}: expected a mapping of models to prices, got {table!r:.80}.")
    prices = {}
    for model, entry in table.items():
        try:
            prices[str(model)] = Price(**{name: float(value) for name, value in entry.items()})
        except (TypeError, ValueError, AttributeError) as error:
            raise SpecError(
                f"{where}: expected {model}: {{input: 2.5, output: 10}} in US dollars per million "
                f"tokens (and `cached`), got {entry!r:.80}."
            ) from error
    return prices


def default_prices() -> dict[str, Price]:
    """The built-in table of prices."""
    text = files("agents").joinpath("prices.yaml").read_text(encoding="utf-8")
    return read_prices(yaml.safe_load(text), "agents/prices.yaml")


def find_price(prices: Mapping[str, Price], model: str) -> Price | None:
    """The price of a model: by its name, or by the longest matching pattern."""
    for name in (model, model.rpartition("/")[2]):
        if name in prices:
            return prices[name]
    fitting = [pattern for pattern in prices if fnmatchcase(model, pattern)]
    return prices[max(fitting, key=len)] if fitting else None
