import pytest

from agents.api.circuit import Circuit
from longvideo_env.errors import EndpointDownError


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuit(clock):
    return Circuit("e", failures=3, after_s=10.0, probe_every_s=5.0, clock=clock)


def test_many_failures_at_once_do_not_open_it(circuit):
    for _ in range(100):
        circuit.failed("refused")
    circuit.check()
    assert not circuit.is_open


def test_failures_over_a_long_time_do(circuit, clock):
    for now in (0.0, 5.0, 10.0):
        clock.now = now
        circuit.failed("refused")
    assert circuit.is_open
    with pytest.raises(EndpointDownError, match="3 failures in a row over 10 s, the last: refused"):
        circuit.check()


def test_a_success_in_between_starts_the_count_anew(circuit, clock):
    for now in (0.0, 5.0):
        clock.now = now
        circuit.failed("x")
    circuit.succeeded()
    clock.now = 10.0
    circuit.failed("x")
    assert not circuit.is_open


def test_probes_are_let_through_one_at_a_time_until_one_succeeds(circuit, clock, caplog):
    for now in (0.0, 5.0, 10.0, 11.0):
        clock.now = now
        circuit.failed("x")
    assert caplog.text.count("is down") == 1
    clock.now = 15.0
    circuit.check()
    with pytest.raises(EndpointDownError):
        circuit.check()
    circuit.succeeded()
    circuit.check()
    assert "available again" in caplog.text
