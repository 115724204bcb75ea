import asyncio
import logging
import pickle
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("openai")
pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parent))

from aiohttp import web
from fake_server import completion, error, running

from agents.api.client import ChatClient
from agents.api.endpoints import Endpoint, Secret
from agents.api.usage import Price
from longvideo_env.errors import ContextTooLongError, EndpointDownError, EndpointError

HELLO = [{"role": "user", "content": "hello"}]


def ask(client, n=1, **options):
    async def all_of_them():
        calls = (client.chat("m", HELLO, role="master", **options) for _ in range(n))
        return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(all_of_them())
    if n > 1:
        return found
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def client_of(server, **options):
    return ChatClient(Endpoint("fake", server.url, Secret("sk-very-secret"), **options))


def test_text_tokens_and_money():
    prices = {"m": Price(input=2.0, output=10.0, cached=0.5)}
    details = {"prompt_tokens_details": {"cached_tokens": 40}}
    with running(lambda body, n: completion("hi", **details)) as server:
        client = client_of(server, prices=prices)
        reply = ask(client, extra={"temperature": 0})
        ask(client)
    assert (reply.text, reply.finish) == ("hi", "stop")
    assert reply.usage.cost_usd == pytest.approx((60 * 2.0 + 40 * 0.5 + 10 * 10.0) / 1e6)
    assert client.spent["master"].requests == 2
    assert client.spent["master"].prompt_tokens == 200
    assert server.bodies[0] == {"model": "m", "messages": HELLO, "temperature": 0}
    assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"


def half_a_body():
    return web.Response(body=b'{"choices', content_type="application/json")


async def hang_up(request_body=None):
    raise asyncio.CancelledError  # aiohttp closes the connection


@pytest.mark.parametrize(
    "fault",
    [
        lambda: error(429, headers={"Retry-After": "0"}),
        lambda: error(500),
        lambda: error(503),
        half_a_body,
        hang_up,
        lambda: web.json_response({"choices": []}),
        lambda: web.json_response([1]),
    ],
)
def test_what_may_pass_is_tried_again(fault):
    with running(lambda body, n: fault() if n < 2 else completion("at last")) as server:
        reply = ask(client_of(server))
    assert reply.text == "at last"
    assert len(server.bodies) == 3
    assert reply.usage.requests == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda: error(401, "bad key sk-very-secret"), r"HTTP 401: .*bad key \[key\]"),
        (lambda: error(404, "no such model"), "no such model"),
        (lambda: error(429, "pay first", code="insufficient_quota"), "pay first"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(answer, problem):
    with running(lambda body, n: answer()) as server, pytest.raises(EndpointError, match=problem):
        ask(client_of(server))
    assert len(server.bodies) == 1


def test_a_prompt_that_is_too_long_has_its_own_error():
    full = {"code": "context_length_exceeded"}
    with (
        running(lambda body, n: error(400, "too long", **full)) as server,
        pytest.raises(ContextTooLongError),
    ):
        ask(client_of(server))


def test_attempts_are_bounded_and_the_key_stays_out_of_the_message():
    with running(lambda body, n: error(500, "sk-very-secret broke")) as server:
        client = client_of(server, attempts=2)
        with pytest.raises(EndpointError, match=r"after 2 attempts.*\[key\] broke") as caught:
            ask(client)
    assert "sk-very" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_total_time_holds_over_all_retries():
    async def slow(body, n):
        await asyncio.sleep(5)

    with running(lambda body, n: slow(body, n)) as server:
        start = time.monotonic()
        with pytest.raises(EndpointError, match=r"total_timeout_s=0\.3"):
            ask(client_of(server, total_timeout_s=0.3))
        assert time.monotonic() - start < 4


def test_waiting_for_a_place_takes_nothing_off_the_total_time():
    async def slow(body, n):
        await asyncio.sleep(0.3)
        return completion("ok")

    with running(slow) as server:
        client = client_of(server, max_in_flight=1, total_timeout_s=1.0)
        replies = ask(client, n=6)  # the last has waited for 1.5 s
    assert [getattr(reply, "text", reply) for reply in replies] == ["ok"] * 6


def test_tokens_a_minute_are_bounded():
    async def ask_twice(client):
        await client.chat("m", HELLO, role="master")
        second = client.chat("m", HELLO, role="master")
        with pytest.raises(asyncio.TimeoutError):  # half a minute's tokens are used up
            await asyncio.wait_for(second, 0.5)

    with running(lambda body, n: completion("ok")) as server:
        asyncio.run(ask_twice(client_of(server, tokens_per_minute=20)))
        assert len(server.bodies) == 1


def test_no_more_requests_in_flight_than_allowed():
    async def slow():
        while server.peak < 3:  # until as many as are allowed have come
            await asyncio.sleep(0.01)
        return completion("ok")

    with running(lambda body, n: slow()) as server:
        found = ask(client_of(server, max_in_flight=3), n=12)
    assert [reply.text for reply in found] == ["ok"] * 12
    assert server.peak == 3


def test_requests_a_minute_are_bounded():
    with running(lambda body, n: completion("ok")) as server:
        client = client_of(server, requests_per_minute=600)
        loop_time = time.monotonic()
        asyncio.run(_drain(client, 600, 603))
        assert time.monotonic() - loop_time >= 0.2
    assert len(server.bodies) == 3


async def _drain(client, taken, until):
    """Use most of a minute's allowance at once, then send a request."""
    lane = await client._lane()
    ((limiter, of_tokens),) = lane.rates
    assert not of_tokens
    await limiter.acquire(taken)
    for _ in range(until - taken):
        await client.chat("m", HELLO, role="master")


def test_a_parameter_that_a_model_does_not_take_is_left_out_from_then_on():
    def answer(body, n):
        for name in ("stop", "max_tokens"):
            if name in body:
                return error(400, f"{name} is unsupported", param=name)
        return completion("ok")

    with running(answer) as server:
        client = client_of(server)
        options = {"extra": {"stop": ["x"], "max_tokens": 5, "temperature": 0}}
        ask(client, **options)
        ask(client, **options)
    assert len(server.bodies) == 4
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens", "temperature"}


def test_an_endpoint_that_is_down_says_so_once_and_comes_back(caplog):
    broken = True

    def answer(body, n):
        return error(500) if broken else completion("back")

    with running(answer) as server:
        client = client_of(
            server, attempts=1, down_after_failures=3, down_after_s=0.0001, probe_every_s=1.0
        )
        with caplog.at_level(logging.INFO):
            found = ask(client, n=5)
            found += [_failure(client) for _ in range(3)]
            assert any(isinstance(one, EndpointDownError) for one in found)
            assert len(server.bodies) < len(found)
            broken = False
            time.sleep(1.05)
            assert ask(client).text == "back"
    said = [r.message for r in caplog.records if "is down" in r.message]
    assert len(said) == 1
    assert any("available again" in r.message for r in caplog.records)


def _failure(client):
    try:
        ask(client)
    except EndpointError as error:
        return error
    return None


def test_the_key_is_in_nothing_that_is_written(caplog):
    with (
        caplog.at_level(logging.DEBUG),
        running(lambda b, n: error(500) if n < 1 else completion("ok")) as server,
    ):
        client = client_of(server)
        ask(client)
    assert caplog.records
    secret = "very-secret"
    assert secret not in caplog.text
    assert secret not in repr(client.endpoint)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client.endpoint)
