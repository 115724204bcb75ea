"""Endpoints: addresses of model servers, with keys and limits.

`openai:MODEL` uses `OPENAI_BASE_URL` (by default OpenAI) with the key `OPENAI_API_KEY`.
`openai:MODEL@http://localhost:8000/v1` uses that address, without a key. `openai:MODEL@NAME` uses
an endpoint of the YAML file that `LONGVIDEO_ENDPOINTS` names (see `configs/endpoints.yaml`). Its
entry `default` applies to `openai:MODEL`.

A key is a `Secret`. It has no text form, so it cannot be printed, logged, pickled or saved with a
configuration.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from agents.api.usage import Price, default_prices, read_prices
from longvideo_env.errors import InputError, SpecError
from longvideo_env.redaction import keep_secret

FILE_VARIABLE = "LONGVIDEO_ENDPOINTS"
PRICES_VARIABLE = "LONGVIDEO_PRICES"
OPENAI_URL = "https://api.openai.com/v1"
DEFAULT = "default"


class Secret:
    """Text that is never shown. `reveal` returns it for sending.

    Once created, it is removed from all text from outside (`longvideo_env.redaction`).
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text
        keep_secret(text)

    def __repr__(self) -> str:
        return "Secret(...)" if self._text else "Secret()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "a key cannot be pickled. Fix: load the endpoint again in the other process"
        )

    def reveal(self) -> str:
        """The text."""
        return self._text


@dataclass(frozen=True)
class Endpoint:
    """A model server.

    Attributes:
        name: Name in messages.
        base_url: Address, up to `/v1`.
        api_key: Key; may be empty.
        max_in_flight: Maximum number of concurrent requests.
        requests_per_minute: Maximum requests per minute, or None.
        tokens_per_minute: Maximum tokens per minute, or None. Requests are counted by an estimate.
        connect_timeout_s: Maximum wait for a connection.
        read_timeout_s: Maximum wait for the next bytes of a reply.
        total_timeout_s: Maximum wait for a reply including retries. Waiting for a free place within
            our limits does not count.
        max_reply_bytes: Maximum bytes of a reply, decompressed.
        max_reply_tokens: Maximum tokens of a reply: the server's count, or one per 16 characters if
            that is more.
        attempts: Maximum attempts of a request.
        down_after_s: The circuit opens after this many seconds without a success,
        down_after_failures: and at least this many failures in a row.
        probe_every_s: Seconds between test requests while the circuit is open.
        prices: Prices by model.
    """

    name: str
    base_url: str
    api_key: Secret = field(default_factory=lambda: Secret(""))
    max_in_flight: int = 128
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 180.0
    total_timeout_s: float = 900.0
    max_reply_bytes: int = 2_000_000
    max_reply_tokens: int = 100_000
    attempts: int = 12
    down_after_s: float = 30.0
    down_after_failures: int = 10
    probe_every_s: float = 15.0
    prices: Mapping[str, Price] = field(default_factory=default_prices, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        for name in (*_POSITIVE, "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not _is_positive(value):
                raise SpecError(
                    f"endpoint {self.name!r}: {name} must be a number above 0, got {value!r:.40}."
                )


_POSITIVE = (
    "max_in_flight",
    "connect_timeout_s",
    "read_timeout_s",
    "total_timeout_s",
    "max_reply_bytes",
    "max_reply_tokens",
    "attempts",
    "down_after_s",
    "probe_every_s",
    "down_after_failures",
)
_IN_FILE = {f.name for f in fields(Endpoint)} - {"name", "prices"} | {"api_key_env"}


def _is_positive(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value < math.inf  # also refuses nan


def load_endpoint(name: str = "") -> Endpoint:
    """The endpoint with a name or a URL. Without either, the default endpoint.

    Raises:
        SpecError: There is no such endpoint, or it needs a key and has none.
    """
    if "://" in name:
        _check_url(name)
        return Endpoint(urlsplit(name).netloc, name.rstrip("/"), prices=load_prices())
    entries = _read_file()
    if name or DEFAULT in entries:
        return _from_entry(name or DEFAULT, entries)
    url = os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    key = Secret(os.environ.get("OPENAI_API_KEY", ""))
    if not key and url == OPENAI_URL:
        raise SpecError(
            "openai:MODEL needs a key or an endpoint. Fix: set OPENAI_API_KEY; or name one, "
            f"as in openai:MODEL@http://localhost:8000/v1, or @NAME of the file in {FILE_VARIABLE}."
        )
    return Endpoint(urlsplit(url).netloc, url.rstrip("/"), key, prices=load_prices())


def named_endpoints() -> list[str]:
    """The names in the file of endpoints. Empty without a file.

    Raises:
        SpecError: The file cannot be read.
    """
    return list(_read_file())


def load_prices() -> dict[str, Price]:
    """The built-in prices, updated from `LONGVIDEO_PRICES` and the file of endpoints.

    Raises:
        SpecError: A price table cannot be read.
    """
    prices = default_prices()
    if path := os.environ.get(PRICES_VARIABLE):
        prices |= read_prices(_read_yaml(Path(path), PRICES_VARIABLE), path)
    if path := os.environ.get(FILE_VARIABLE):
        table = _read_yaml(Path(path), FILE_VARIABLE).get("prices", {})
        prices |= read_prices(table, f"{path}: prices")
    return prices


def _read_file() -> dict[str, Any]:
    path = os.environ.get(FILE_VARIABLE)
    if not path:
        return {}
    entries = _read_yaml(Path(path), FILE_VARIABLE).get("endpoints", {})
    if not isinstance(entries, dict):
        raise SpecError(f"{path}: expected `endpoints:` with a mapping of names.")
    return entries


def _from_entry(name: str, entries: Mapping[str, Any]) -> Endpoint:
    if name not in entries:
        known = ", ".join(sorted(entries)) or f"none: {FILE_VARIABLE} names no file with endpoints"
        raise SpecError(f"unknown endpoint {name!r}; there are: {known}.")
    entry = dict(entries[name] or {})
    unknown = sorted(entry.keys() - _IN_FILE)
    if unknown:
        options = ", ".join(sorted(_IN_FILE))
        raise SpecError(f"endpoint {name!r}: unknown option {unknown[0]!r}; options: {options}.")
    variable = entry.pop("api_key_env", None)
    key = str(entry.pop("api_key", None) or os.environ.get(variable or "", ""))
    if variable and not key:
        raise SpecError(f"endpoint {name!r}: the environment variable {variable} holds no key.")
    if "base_url" not in entry:
        raise SpecError(f"endpoint {name!r} has no base_url.")
    entry["base_url"] = str(entry["base_url"]).rstrip("/")
    return Endpoint(name=name, api_key=Secret(key), prices=load_prices(), **entry)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError(
            f"expected an address such as http://localhost:8000/v1, got {_bare(url)!r}."
        )
    if parts.username or parts.password or parts.query:
        # Specs are saved in every artefact of a run.
        raise SpecError(
            f"the address {_bare(url)!r} contains a user, password or query, but specs must not "
            f"contain keys. Fix: add the endpoint to the file that {FILE_VARIABLE} names, with "
            "`api_key_env`."
        )


def _bare(url: str) -> str:
    """An address without its possibly secret parts."""
    return re.sub(r"\?.*", "?...", re.sub(r"//[^/@]*@", "//...@", url))[:100]


def _read_yaml(path: Path, variable: str) -> dict[str, Any]:
    try:
        state = path.stat()
        return _parse_yaml(path, state.st_mtime_ns)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # A YAML error quotes the file, which may contain keys.
        problem = error.strerror if isinstance(error, OSError) else "it is not YAML"
        raise InputError(f"{variable} names {path}, which cannot be read: {problem}.") from None


@lru_cache(maxsize=8)
def _parse_yaml(path: Path, _changed: int) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(found, dict):
        raise SpecError(f"{path}: expected a mapping, got {type(found).__name__}.")
    return found
