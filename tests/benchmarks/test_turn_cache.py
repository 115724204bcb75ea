import pytest

from benchmarks import turn_cache


def test_both_ways_write_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    ratio = turn_cache.main(["--rows", "2", "--prompt", "40", "--reply", "4", "--turns", "3"])
    assert ratio > 0
    assert "1.000 of the tokens equal" in capsys.readouterr().out
