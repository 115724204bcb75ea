"""The client for models over the network: OpenAI-compatible chat, asynchronous (`openai`).

Each endpoint has one client per process, shared by all roles, so its limits hold for all of them
together: requests in flight, requests per minute, tokens per minute. Temporary failures (no
connection, a time-out, 408, 409, 429, 5xx, an incomplete body) are retried (`retries`). If an
endpoint stays down, its circuit opens (`circuit`). Replies are limited in bytes (`limits`), tokens
and seconds. Keys are removed from all replies and errors.

Bodies are encoded with orjson and sent as bytes, and replies are parsed without schema validation.
With fifteen frames in a request, validating and encoding would otherwise dominate the cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agents.api.circuit import Circuit
from agents.api.endpoints import Endpoint
from agents.api.retries import TimeLeft, TryAgain, retries, retry_after_s
from agents.api.streamed import count_of, is_streamed, joined, text_of
from agents.api.usage import Usage, cost_of, find_price
from longvideo_env.errors import ContextTooLongError, EndpointError, MissingExtraError
from longvideo_env.redaction import cleanse, cleanse_all

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PASSING = frozenset({408, 409, 429})
_HOPELESS_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_CHARACTERS_A_TOKEN = 16
"""Characters per token, far above any tokenizer's mean. A longer reply has more tokens than its
server reports."""

_IMAGE_TOKENS = 1000
"""Estimated tokens of an image, for the limit of tokens per minute."""

_RENAMED = {"max_tokens": "max_completion_tokens"}
"""Parameters with another name for newer models."""

_NEEDED = frozenset({"tools", "tool_choice", "stream"})
"""Parameters that must not be dropped, because the request would change its meaning."""


@dataclass(frozen=True)
class ChatReply:
    """A model's reply.

    Attributes:
        text: The message's text.
        reasoning: Reasoning that the server returns separately.
        finish: `stop`, `length` or another reason from the server.
        usage: Tokens, requests and money.
        tool_calls: The function calls in the message.
    """

    text: str
    reasoning: str
    finish: str
    usage: Usage
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass
class _Lane:
    """Connections and limits of one event loop."""

    openai: AsyncOpenAI
    in_flight: asyncio.Semaphore
    # Each limiter, and whether it limits tokens.
    rates: list[tuple[Any, bool]] = field(default_factory=list)
    holder: AsyncIterator[None] | None = None


class ChatClient:
    """Sends requests to the models of one endpoint.

    Args:
        endpoint: Address and limits.

    Raises:
        MissingExtraError: The extra `api` is not installed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        _require_extra()
        self.endpoint = endpoint
        self.spent: dict[str, Usage] = {}
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}
        self._refused: dict[str, set[str]] = {}
        self._circuit = Circuit(
            endpoint.name,
            endpoint.down_after_failures,
            endpoint.down_after_s,
            endpoint.probe_every_s,
        )

    async def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        role: str,
        extra: Mapping[str, Any] | None = None,
        n_images: int = 0,
    ) -> ChatReply:
        """Send a chat request to a model.

        Args:
            model: The model's name.
            messages: Chat messages. Content may contain `orjson.Fragment`s.
            role: Role of the caller (`master`, `grounding`, `vision`), for accounting.
            extra: Sampling parameters. If a model rejects one, it is dropped from then on. If it
                rejects tools or streaming, the request fails.
            n_images: Number of images in the messages, for the estimate of tokens.

        Raises:
            ContextTooLongError: The request is longer than the model's context.
            EndpointError: There is no usable reply after all retries.
        """
        params = dict(extra or {})
        while True:
            known = self._refused.setdefault(model, set())
            body = self._body(model, messages, params, known)
            try:
                reply = await self._send(model, body, n_images)
            except _ParameterError as error:
                if error.name in known or error.name not in params or error.name in _NEEDED:
                    raise EndpointError(self._clean(str(error))) from None
                known.add(error.name)
                continue
            self.spent[role] = self.spent.get(role, Usage()) + reply.usage
            return reply

    def _body(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        params: Mapping[str, Any],
        refused: set[str],
    ) -> bytes:
        import orjson

        kept: dict[str, Any] = {"model": model, "messages": messages}
        for name, value in params.items():
            if name not in refused:
                kept[name] = value
            elif name in _RENAMED:
                kept[_RENAMED[name]] = value
        return orjson.dumps(kept)

    async def _send(self, model: str, body: bytes, n_images: int) -> ChatReply:
        """Send a request, with retries, within the total time."""
        endpoint = self.endpoint
        lane = await self._lane()
        tokens = (len(body) // 4) if not n_images else n_images * _IMAGE_TOKENS
        try:
            time_left = TimeLeft(endpoint.total_timeout_s)
            return await self._persist(lane, model, body, tokens, time_left)
        except asyncio.TimeoutError:
            raise EndpointError(
                f"endpoint {endpoint.name}, model {model}: no reply within "
                f"total_timeout_s={endpoint.total_timeout_s:g}."
            ) from None  # the cause may contain the key

    async def _persist(
        self, lane: _Lane, model: str, body: bytes, tokens: int, time_left: TimeLeft
    ) -> ChatReply:
        """Retry until success or a permanent failure. Most requests need only `_try`."""
        try:
            return await self._try(lane, model, body, tokens, time_left)
        except TryAgain as error:
            failures = [error]

        async def again() -> ChatReply:
            if failures:
                raise failures.pop()  # the first attempt was already made
            return await self._try(lane, model, body, tokens, time_left)

        retrying = retries(self.endpoint.attempts, time_left)
        try:
            return await retrying(again)
        except TryAgain as error:
            raise EndpointError(
                f"endpoint {self.endpoint.name}, model {model}: no reply after "
                f"{retrying.statistics.get('attempt_number', 1)} attempts, the last: {error}"
            ) from None

    async def _try(
        self, lane: _Lane, model: str, body: bytes, tokens: int, time_left: TimeLeft
    ) -> ChatReply:
        """One attempt. The type of its exception says whether to retry."""
        for limiter, of_tokens in lane.rates:
            await limiter.acquire(min(tokens, limiter.max_rate) if of_tokens else 1)
        async with lane.in_flight:
            self._circuit.check()
            try:
                content = await time_left.allow(self._post(lane, body))
                reply = self._read(model, content)
            except asyncio.TimeoutError:
                self._circuit.failed("no reply in time.")
                raise
            except TryAgain as error:
                if error.down:
                    self._circuit.failed(str(error))
                raise
        self._circuit.succeeded()
        return reply

    async def _post(self, lane: _Lane, body: bytes) -> bytes:
        import aiohttp
        import httpx2
        import openai

        faults = (openai.APIConnectionError, httpx2.RequestError, aiohttp.ClientError, OSError)
        try:
            response = await lane.openai.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                content=body,
                options={"headers": {"Content-Type": "application/json"}},
            )
            return bytes(response.content)
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except faults as error:
            cause = error.__cause__ or error
            problem = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
            raise TryAgain(self._clean(problem)) from None

    def _status_error(self, error: Any) -> Exception:
        """The exception for an HTTP status: retry, drop a parameter, or fail."""
        code, message = str(getattr(error, "code", "") or ""), self._clean(error.message)
        said = f"HTTP {error.status_code}: {message}"
        where = f"endpoint {self.endpoint.name}: {said}"
        if code in _HOPELESS_CODES:
            return EndpointError(where)
        if error.status_code in _PASSING or error.status_code >= 500:
            after = retry_after_s(error.response.headers)
            return TryAgain(said, after, down=after is None and error.status_code != 429)
        if error.status_code == 400 and (
            code == "context_length_exceeded" or "context length" in message.lower()
        ):
            return ContextTooLongError(where)
        parameter = getattr(error, "param", None)
        if error.status_code == 400 and isinstance(parameter, str):
            return _ParameterError(where, parameter)
        return EndpointError(where)

    def _read(self, model: str, content: bytes) -> ChatReply:
        import orjson

        try:
            reply = cleanse_all(joined(content) if is_streamed(content) else orjson.loads(content))
            choice = reply["choices"][0]
            message = choice["message"]
            used = reply.get("usage") or {}
            usage = self._usage(model, used)
            found = ChatReply(
                text=text_of(message.get("content")),
                reasoning=text_of(message.get("reasoning_content") or message.get("reasoning")),
                finish=text_of(choice.get("finish_reason")) or "stop",
                usage=usage,
                tool_calls=tuple(message.get("tool_calls") or ()),
            )
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError):
            raise TryAgain(
                f"expected a chat completion, got {self._clean(repr(content[:200]))[:80]}"
            ) from None
        most, size = self.endpoint.max_reply_tokens, len(found.text) + len(found.reasoning)
        tokens = max(usage.completion_tokens, size // _CHARACTERS_A_TOKEN)
        if tokens > most:
            raise EndpointError(
                f"endpoint {self.endpoint.name}, model {model}: the reply has {tokens:,} tokens, "
                f"more than max_reply_tokens={most:,}."
            )
        return found

    def _usage(self, model: str, used: Mapping[str, Any]) -> Usage:
        prompt = count_of(used.get("prompt_tokens"))
        completion = count_of(used.get("completion_tokens"))
        cached = count_of((used.get("prompt_tokens_details") or {}).get("cached_tokens"))
        details = used.get("completion_tokens_details") or {}
        price = find_price(self.endpoint.prices, model)
        return Usage(
            1,
            prompt,
            cached,
            completion,
            count_of(details.get("reasoning_tokens")),
            cost_of(price, prompt, cached, completion),
        )

    def _clean(self, text: str) -> str:
        return cleanse(text)[:500]

    async def _lane(self) -> _Lane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            # A lane refers to its loop, so a weak key would never be freed.
            self._lanes = {one: kept for one, kept in self._lanes.items() if not one.is_closed()}
            lane = self._lanes[loop] = self._make_lane()
            # `asyncio.run` closes async generators before it closes its loop. This closes the
            # connections, so callers do not have to.
            lane.holder = _hold(lane.openai)
            await anext(lane.holder)
        return lane

    def _make_lane(self) -> _Lane:
        import httpx2
        from aiolimiter import AsyncLimiter
        from openai import AsyncOpenAI, DefaultAioHttpClient

        from agents.api.limits import limit_replies

        endpoint = self.endpoint
        timeout = httpx2.Timeout(endpoint.read_timeout_s, connect=endpoint.connect_timeout_s)
        limits = httpx2.Limits(
            max_connections=endpoint.max_in_flight,
            max_keepalive_connections=endpoint.max_in_flight,
            keepalive_expiry=30.0,
        )
        http_client = DefaultAioHttpClient(limits=limits, timeout=timeout)
        limit_replies(http_client, endpoint.name, endpoint.max_reply_bytes)
        client = AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key.reveal() or "none",
            timeout=timeout,
            max_retries=0,  # retries are made here, within limits and circuit
            http_client=http_client,
        )
        lane = _Lane(client, asyncio.Semaphore(endpoint.max_in_flight))
        if endpoint.requests_per_minute:
            lane.rates.append((AsyncLimiter(endpoint.requests_per_minute, 60), False))
        if endpoint.tokens_per_minute:
            lane.rates.append((AsyncLimiter(endpoint.tokens_per_minute, 60), True))
        return lane


class _ParameterError(Exception):
    """The model rejects a parameter."""

    def __init__(self, problem: str, name: str) -> None:
        super().__init__(problem)
        self.name = name


@lru_cache(maxsize=64)
def client_for(endpoint: Endpoint) -> ChatClient:
    """The client of an endpoint, shared by all agents of this process."""
    return ChatClient(endpoint)


async def _hold(client: AsyncOpenAI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        yield


def _require_extra() -> None:
    try:
        import aiohttp
        import aiolimiter
        import openai
        import orjson
        import tenacity
    except ImportError as error:
        raise MissingExtraError(error.name or "openai", "api") from error
    del aiohttp, aiolimiter, openai, orjson, tenacity
