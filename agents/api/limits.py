"""An HTTP transport with a limit on the size of replies (`httpx2`).

It decompresses replies itself, so the limit applies to the decompressed size. It works below the
client, so error replies have the same limit.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx2

from longvideo_env.errors import EndpointError

_PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 47}
"""Content encodings -> zlib's `wbits`."""


def limit_replies(client: httpx2.AsyncClient, name: str, max_bytes: int) -> None:
    """Add the limit to a client, including its proxies."""
    client._transport = LimitedTransport(client._transport, name, max_bytes)
    for pattern, inner in client._mounts.items():
        if inner is not None:
            client._mounts[pattern] = LimitedTransport(inner, name, max_bytes)


class LimitedTransport(httpx2.AsyncBaseTransport):
    """See the module's docstring.

    Args:
        inner: The transport that sends the requests.
        name: The endpoint, for messages.
        max_bytes: Maximum bytes of a reply's body, decompressed.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, name: str, max_bytes: int) -> None:
        self._inner = inner
        self._name = name
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            EndpointError: The reply has an encoding that was not requested.
        """
        request.headers["Accept-Encoding"] = "gzip, deflate"
        response = await self._inner.handle_async_request(request)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        body = response.stream
        assert isinstance(body, httpx2.AsyncByteStream)
        if encoding not in ("identity", "", *_PACKED):
            await body.aclose()
            raise EndpointError(
                f"endpoint {self._name}: expected a plain or gzip reply, got content-encoding "
                f"{encoding!r:.60}."
            )
        kept = [
            (name, value)
            for name, value in response.headers.raw
            if name.lower() not in (b"content-encoding", b"content-length")
        ]
        return httpx2.Response(
            response.status_code,
            headers=kept,
            stream=_LimitedBody(body, _PACKED.get(encoding), self._name, self._max_bytes),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _LimitedBody(httpx2.AsyncByteStream):
    def __init__(
        self, body: httpx2.AsyncByteStream, wbits: int | None, name: str, max_bytes: int
    ) -> None:
        self._body = body
        self._unpack = None if wbits is None else zlib.decompressobj(wbits)
        self._name = name
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        packed = plain = 0
        async for chunk in self._body:
            packed += len(chunk)
            part = self._unpacked(chunk, self._max_bytes + 1 - plain)
            plain += len(part)
            if max(packed, plain) > self._max_bytes:
                raise EndpointError(
                    f"endpoint {self._name}: the reply is larger than max_reply_bytes="
                    f"{self._max_bytes:,}{' when unpacked' * (self._unpack is not None)}. Fix: "
                    "raise the limit in the file of endpoints if such replies are intended."
                )
            if part:
                yield part

    def _unpacked(self, chunk: bytes, most: int) -> bytes:
        if self._unpack is None:
            return chunk
        try:
            return self._unpack.decompress(chunk, most)
        except zlib.error as error:
            raise httpx2.ReadError(f"the packed reply is damaged ({error})") from None

    async def aclose(self) -> None:
        await self._body.aclose()
