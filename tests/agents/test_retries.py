import asyncio

import pytest

from agents.api.retries import TimeLeft, TryAgain, retries, retry_after_s


def calls_of(attempts, time_left, retry_after=0.0):
    """The number of attempts of a call that always fails."""
    made = []

    async def fail():
        made.append(1)
        raise TryAgain("no", retry_after)

    with pytest.raises(TryAgain, match="no"):
        asyncio.run(retries(attempts, time_left)(fail))
    return len(made)


def test_attempts_are_bounded_and_waits_are_taken_off():
    time_left = TimeLeft(100.0)
    assert calls_of(2, time_left, 0.01) == 2
    assert 99.7 < time_left.left_s <= 99.99


def test_a_wait_that_would_use_up_the_time_is_not_begun():
    time_left = TimeLeft(5.0)
    assert calls_of(9, time_left, 60.0) == 1
    assert time_left.left_s == 5.0


def test_what_is_waited_for_is_taken_off_and_cut_short():
    async def wait(seconds, time_left):
        await time_left.allow(asyncio.sleep(seconds))

    time_left = TimeLeft(30.0)
    asyncio.run(wait(0.05, time_left))
    assert time_left.left_s < 29.96
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(wait(30, TimeLeft(0.01)))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_s(headers) == seconds
