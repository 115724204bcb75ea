from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.paired import MOST_FLIPPED, clustered_difference, holm

PAIRS = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.integers(0, 18)), min_size=1, max_size=60
)


def of(values, videos):
    return clustered_difference([float(v) for v in values], list(videos))


def test_p_counts_the_patterns_of_signs_of_the_videos():
    sums = {0: [1, 1, 0], 1: [1, 0], 2: [0, -1], 3: [1, 1], 4: [1], 5: [1, 0, 0, 1], 6: [0, 1]}
    values = [v for rows in sums.values() for v in rows]
    videos = [video for video, rows in sums.items() for _ in rows]
    totals = [sum(rows) for rows in sums.values()]
    patterns = [abs(np.dot(s, totals)) for s in product((-1, 1), repeat=len(totals))]
    found = of(values, videos)
    assert found.method == "sign-flip"
    assert found.mean == pytest.approx(sum(totals) / len(values))
    assert found.p == pytest.approx(np.mean([p >= sum(totals) - 1e-9 for p in patterns]))


def test_few_videos_exclude_nothing_and_stay_within_bounds():
    for n_videos in (2, 5):
        found = of([1.0] * 40, [i % n_videos for i in range(40)])
        assert found.interval == (-1.0, 1.0)
        assert found.p == pytest.approx(2 / 2**n_videos)
    six = of([1.0, 0.0] * 30, [i % 6 // 2 * 2 + i // 30 for i in range(60)])
    assert six.p == pytest.approx(2 / 2**6)
    assert six.interval[0] > 0


def test_one_video_gives_neither_interval_nor_p():
    found = of([1.0, 1.0, 0.0] * 100, ["a"] * 300)
    assert (found.interval, found.p, found.method) == (None, None, None)
    assert found.mean == pytest.approx(2 / 3)


def test_many_videos_give_students_t_with_cr2():
    rng = np.random.default_rng(0)
    values = rng.choice([-1.0, 0.0, 1.0], 240, p=[0.1, 0.6, 0.3])
    found = of(values, np.arange(240) // 8)
    assert found.method == "t"
    means = values.reshape(30, 8).mean(axis=1)
    error = means.std(ddof=1) / np.sqrt(30)
    assert found.interval[1] - found.mean >= 2.045 * error - 1e-3
    assert found.p < 0.001


@given(PAIRS)
def test_p_and_interval_agree_and_stay_within_bounds(pairs):
    found = of([d for d, _ in pairs], [v for _, v in pairs])
    if found.interval is None:
        return
    low, high = found.interval
    assert -1 <= low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= high <= 1
    assert 0 < found.p <= 1
    if abs(low) > 1e-9 and abs(high) > 1e-9:
        assert (found.p <= 0.05) == (not low < 0 < high)


@given(PAIRS)
def test_the_other_way_round_is_the_mirror_image(pairs):
    videos = [v for _, v in pairs]
    found, other = of([d for d, _ in pairs], videos), of([-d for d, _ in pairs], videos)
    assert other.p == (None if found.p is None else pytest.approx(found.p))
    if found.interval is not None:
        low, high = found.interval
        assert other.interval == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("n_videos", [8, MOST_FLIPPED + 10])
def test_equal_runs_are_told_apart_by_chance_alone(n_videos):
    rng = np.random.default_rng(1)
    videos = np.repeat(np.arange(n_videos), rng.integers(2, 20, n_videos))
    found, held = 0, 0
    for _ in range(400):
        bounds = rng.dirichlet([1.0, 1.0, 6.0], n_videos).cumsum(axis=1)[videos]
        drawn = rng.random(len(videos))
        values = 1.0 * (drawn < bounds[:, 0]) - (drawn >= bounds[:, 0]) * (drawn < bounds[:, 1])
        difference = of(values, videos)
        found += difference.p <= 0.05
        held += difference.interval[0] <= 0 <= difference.interval[1]
    assert found / 400 <= 0.07
    assert held / 400 >= 0.93


def test_holm():
    assert holm([0.01, None, 0.04, 0.03]) == [0.03, None, 0.06, 0.06]
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
