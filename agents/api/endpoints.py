"""Endpoints: where models are served, with which key, and how hard they may be asked.

`openai:MODEL` is served at `OPENAI_BASE_URL` (by default OpenAI) with the key `OPENAI_API_KEY`.
`openai:MODEL@http://localhost:8000/v1` is served there, without a key. `openai:MODEL@NAME` is
served at an endpoint of the YAML file that `LONGVIDEO_ENDPOINTS` names (see
`configs/endpoints.yaml`); its entry `default` stands for `openai:MODEL`.

A key is a `Secret`: it has no text form, so that nothing that is printed, logged, pickled into a
message or dumped with a configuration can hold it.
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
    """Text that nothing shows. `reveal` gives it to the one who sends it.

    From when it is made, it is cut out of all text from outside (`longvideo_env.redaction`).
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
        raise TypeError("a key is not pickled; load the endpoint again where it is needed")

    def reveal(self) -> str:
        """The text."""
        return self._text


@dataclass(frozen=True)
class Endpoint:
    """One place where models are served.

    Attributes:
        name: What messages call it.
        base_url: Its address, up to `/v1`.
        api_key: Its key; may be empty.
        max_in_flight: Most requests at once.
        requests_per_minute: Most requests a minute, or None.
        tokens_per_minute: Most tokens a minute, or None; a request counts by an estimate.
        connect_timeout_s: Longest wait for a connection.
        read_timeout_s: Longest wait for the next bytes of a reply.
        total_timeout_s: Longest wait for a reply with all retries. Time that a request waits here
            for its turn within the limits does not count.
        max_reply_bytes: Most bytes of a reply, unpacked.
        max_reply_tokens: Most tokens of a reply, by the server's count, or by one for 16 characters
            where that is more.
        attempts: Most tries of one request.
        down_after_s: Once it has failed for so long, without a success, its circuit opens.
        down_after_failures: ... and at least so many times in a row.
        probe_every_s: How often an endpoint whose circuit is open is tried.
        prices: By model.
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
    return 0 < value < math.inf  # nan is refused too


def load_endpoint(name: str = "") -> Endpoint:
    """The endpoint of a name, or of a URL; without either, the default one.

    Raises:
        SpecError: There is no such endpoint, or it has no key and needs one.
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
    """The names in the file of endpoints; none where no file is named.

    Raises:
        SpecError: The file cannot be read.
    """
    return list(_read_file())


def load_prices() -> dict[str, Price]:
    """The table that ships, with what `LONGVIDEO_PRICES` and the file of endpoints name.

    Raises:
        SpecError: A table cannot be read.
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
        raise SpecError(f"{path}: expected `endpoints:` to be a mapping of names.")
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
        # Specs are written into every artefact of a run.
        raise SpecError(
            f"the address {_bare(url)!r} holds a user, password or query: keys do not belong into "
            f"a spec. Fix: put the endpoint into the file that {FILE_VARIABLE} names, with "
            "`api_key_env`."
        )


def _bare(url: str) -> str:
    """An address without what could be a secret."""
    return re.sub(r"\?.*", "?...", re.sub(r"//[^/@]*@", "//...@", url))[:100]


def _read_yaml(path: Path, variable: str) -> dict[str, Any]:
    try:
        state = path.stat()
        return _parse_yaml(path, state.st_mtime_ns)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # The message of a YAML error quotes the file, and the file may hold keys.
        problem = error.strerror if isinstance(error, OSError) else "it is not YAML"
        raise InputError(f"{variable} names {path}, which cannot be read: {problem}.") from None


@lru_cache(maxsize=8)
def _parse_yaml(path: Path, _changed: int) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(found, dict):
        raise SpecError(f"{path}: expected a mapping, got {type(found).__name__}.")
    return found
