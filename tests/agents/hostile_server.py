"""A hostile server on loopback that answers every request with raw bytes over a socket."""

import asyncio
import gzip
import json
import re
import threading
import zlib
from contextlib import contextmanager


def completion(text="ok", **usage):
    counts = {"prompt_tokens": 10, "completion_tokens": 2, **usage}
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": text}}
    return json.dumps({"choices": [choice], "usage": counts}).encode()


def http(body, *headers, status="200 OK", length=None):
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def bomb():
    """About 3.3 MB that unpack to 3.3 GB: a compressed megabyte of spaces, repeated."""
    pack = zlib.compressobj(9, wbits=31)
    head = pack.flush(zlib.Z_FULL_FLUSH)
    megabyte = pack.compress(b" " * 1_000_000) + pack.flush(zlib.Z_FULL_FLUSH)
    return head + megabyte * 3300 + pack.flush()


BOMB = bomb()
LARGE = http(completion("x" * 30_000_000))


async def drip(writer, byte=b" ", every_s=0.05):
    """A reply that never ends and never pauses long enough for a read time-out."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        writer.write(byte)
        await writer.drain()
        await asyncio.sleep(every_s)


async def send(writer, data):
    writer.write(data)
    await writer.drain()


FAULTS = {
    "gzip bomb": lambda w: send(w, http(BOMB, "Content-Encoding: gzip")),
    "gzip bomb as an error": lambda w: send(
        w, http(BOMB, "Content-Encoding: gzip", status="400 Bad Request")
    ),
    "30 MB": lambda w: send(w, LARGE),
    "endless": lambda w: drip(w, b" " * 65536, 0),
    "brotli": lambda w: send(w, http(b"\x1b" * 100, "Content-Encoding: br")),
    "too many tokens": lambda w: send(w, http(completion(completion_tokens=10**9))),
    "more tokens than said": lambda w: send(w, http(completion("x" * 1_700_000))),
    "drip": drip,
    "no JSON": lambda w: send(w, http(b"[" * 100_000)),
    "content is no text": lambda w: send(w, http(completion({"a": [1, float("1e308")]}))),
    "torn gzip": lambda w: send(
        w, http(gzip.compress(completion())[:-30], "Content-Encoding: gzip")
    ),
    "damaged gzip": lambda w: send(w, http(b"not packed", "Content-Encoding: gzip")),
    "long header": lambda w: send(w, http(completion(), "X-Long: " + "x" * 1_000_000)),
    "strange counts": lambda w: send(
        w, http(completion(prompt_tokens="many", completion_tokens=-5))
    ),
    "packed": lambda w: send(w, http(gzip.compress(completion()), "Content-Encoding: gzip")),
}


@contextmanager
def upstream(fault):
    """Serve one fault to all clients. Yields the address."""
    loop = asyncio.new_event_loop()

    async def handle(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                await reader.readexactly(int(length.group(1)) if length else 0)
                await FAULTS[fault](writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def start():
        return await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 26)

    server = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:

        async def stop():
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
