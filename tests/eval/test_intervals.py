import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.intervals import clustered_mean, clustered_share
from eval.metrics.summary import share


def test_independent_hits_give_nearly_wilsons_interval():
    hits = [i % 3 == 0 for i in range(600)]
    low, high = clustered_share(hits, range(600))
    wilson = share(hits)[1]
    assert (low, high) == (pytest.approx(wilson[0], abs=1e-3), pytest.approx(wilson[1], abs=1e-3))


def test_hits_that_are_alike_within_videos_count_as_one_each():
    videos = [i // 10 for i in range(400)]
    hits = [video % 2 == 0 for video in videos]
    low, high = clustered_share(hits, videos)
    alone = clustered_share(hits[::10], videos[::10])
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.05)
    narrow = share(hits)[1]
    assert high - low > 2.5 * (narrow[1] - narrow[0])


def test_it_holds_what_it_promises_where_wilson_does_not():
    rng = np.random.default_rng(0)
    clustered = wilson = 0
    for _ in range(200):
        rates = np.repeat(rng.beta(1, 1, size=40), 15)
        hits = (rng.random(600) < rates).tolist()
        low, high = clustered_share(hits, np.repeat(np.arange(40), 15).tolist())
        clustered += low <= 0.5 <= high
        low, high = share(hits)[1]
        wilson += low <= 0.5 <= high
    assert clustered / 200 >= 0.91
    assert wilson / 200 < 0.75


def test_few_clusters_give_no_interval():
    assert clustered_share([True, False], ["a", "a"]) is None
    assert clustered_mean([1.0], ["a"]) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_it_stays_within_bounds_and_holds_the_share(pairs):
    hits, videos = [hit for hit, _ in pairs], [video for _, video in pairs]
    interval = clustered_share(hits, videos)
    if interval is not None:
        low, high = interval
        assert 0 <= low <= sum(hits) / len(hits) + 1e-9
        assert sum(hits) / len(hits) - 1e-9 <= high <= 1


def test_a_mean_of_differences():
    low, high = clustered_mean([1.0, 0.0, -1.0, 0.0] * 10, [i % 20 for i in range(40)])
    assert low < 0 < high
