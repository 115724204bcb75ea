import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from eval.metrics.clusters import gather, spread
from eval.metrics.intervals import clustered_share, few_videos

VIDEOS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)


def uneven(seed, n_videos=7):
    rng = np.random.default_rng(seed)
    videos = np.repeat(np.arange(n_videos), rng.integers(1, 12, n_videos))
    return rng.standard_normal(len(videos)) + 0.5 * videos, videos


def test_independent_hits_give_nearly_wilsons_interval():
    hits = [i % 3 == 0 for i in range(600)]
    wilson = binomtest(200, 600).proportion_ci(method="wilson")
    assert clustered_share(hits, range(600)) == pytest.approx((wilson.low, wilson.high), abs=1e-3)


def test_hits_that_are_alike_within_videos_count_as_one_each():
    videos = [i // 10 for i in range(400)]
    hits = [video % 2 == 0 for video in videos]
    low, high = clustered_share(hits, videos)
    alone = clustered_share(hits[::10], videos[::10])
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.05)


def test_equal_videos_have_the_standard_error_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    values, _ = uneven(0, 12)
    values, videos = values[:48], np.repeat(np.arange(8), 6)
    fit = sm.OLS(values, np.ones(48)).fit(
        cov_type="cluster", cov_kwds={"groups": videos, "df_correction": True}
    )
    # statsmodels' factor is G/(G-1) * (N-1)/(N-1): for equal videos that is CR2.
    found = gather(values, videos.tolist())
    assert found.mean == pytest.approx(fit.params[0], abs=1e-12)
    for correlation in (0.0, 0.3, 1.0):
        error = spread(found, correlation)
        assert error.standard_error == pytest.approx(fit.bse[0], abs=1e-8)
        assert error.df == pytest.approx(7, abs=1e-8)


def test_uneven_videos_have_the_residuals_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    values, videos = uneven(1)
    fit = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": videos, "use_correction": False}
    )
    found = gather(values, videos.tolist())
    plain = float(((found.weights * (found.means - found.mean)) ** 2).sum())
    assert np.sqrt(plain) == pytest.approx(fit.bse[0], abs=1e-8)
    assert spread(found, 0.0).standard_error > fit.bse[0]


@pytest.mark.parametrize("correlation", [0.0, 0.05, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_the_closed_form_is_bell_and_mccaffreys(seed, correlation):
    """Their matrices, per question: A = D' (D H D')^(-1/2) D, H = (I-P) W (I-P)'."""
    values, videos = uneven(seed)
    n = len(values)
    working = np.where(videos[:, None] == videos, correlation, 0.0) + (1 - correlation) * np.eye(n)
    rest = np.eye(n) - np.ones((n, n)) / n
    covariance = rest @ working @ rest.T
    variance, vectors = 0.0, []
    for video in np.unique(videos):
        own = videos == video
        root = np.linalg.cholesky(working[np.ix_(own, own)]).T
        inner = root @ covariance[np.ix_(own, own)] @ root.T
        eigen, axes = np.linalg.eigh(inner)
        power = axes @ np.diag(np.where(eigen > 1e-10, eigen, np.inf) ** -0.5) @ axes.T
        row = np.zeros(n)
        row[own] = (root.T @ power @ root).sum(axis=0) / n
        vectors.append(row)
        variance += float(row @ rest @ values) ** 2
    traces = np.array(vectors) @ covariance @ np.array(vectors).T
    error = spread(gather(values, videos.tolist()), correlation)
    assert error.variance == pytest.approx(variance, rel=1e-9)
    assert error.df == pytest.approx(np.trace(traces) ** 2 / (traces**2).sum(), rel=1e-9)


@pytest.mark.parametrize(
    ("sizes", "p", "correlation"),
    [([2, 3, 5, 8, 10, 12, 15, 20, 30, 45], 0.9, 0.2), ([5, 10, 20, 40, 80], 0.5, 0.2)],
)
def test_it_holds_the_truth_as_often_as_it_promises(sizes, p, correlation):
    rng, shape = np.random.default_rng(0), (1 - correlation) / correlation
    videos = np.repeat(np.arange(len(sizes)), sizes).tolist()
    held = 0
    for _ in range(400):
        rates = np.repeat(rng.beta(p * shape, (1 - p) * shape, len(sizes)), sizes)
        low, high = clustered_share((rng.random(len(rates)) < rates).tolist(), videos)
        held += low <= p <= high
    assert 0.92 <= held / 400 <= 0.985


def test_one_video_gives_no_interval():
    assert clustered_share([True, False] * 100, ["a"] * 200) is None
    assert clustered_share([], []) is None
    assert few_videos(1).startswith("one video: no interval")
    assert few_videos(2).startswith("2 videos are few")
    assert few_videos(10) is None


def test_two_videos_give_a_wider_interval_than_twenty():
    def width(n_videos):
        hits, videos = [i % 2 == 0 for i in range(400)], [i % n_videos for i in range(400)]
        hits = [hit or video == 0 for hit, video in zip(hits, videos, strict=True)]
        low, high = clustered_share(hits, videos)
        return high - low

    assert width(2) > width(5) > width(21)


def test_samples_of_a_question_are_no_new_questions():
    hits, videos = [i % 3 == 0 for i in range(60)], [i // 6 for i in range(60)]
    many = [hits[i] for i in range(60) for _ in range(64)]
    of = [videos[i] for i in range(60) for _ in range(64)]
    questions = [i for i in range(60) for _ in range(64)]
    assert clustered_share(many, of, questions) == pytest.approx(clustered_share(hits, videos))


@pytest.mark.parametrize("right", [0, 1])
def test_where_all_are_right_or_none_the_limit_is_exact(right):
    ends = clustered_share([right] * 30, range(30))
    exact = binomtest(30 * right, 30).proportion_ci(method="exact")
    assert ends == pytest.approx((exact.low, exact.high))
    in_videos = clustered_share([right] * 30, [i // 5 for i in range(30)])
    assert in_videos[1] - in_videos[0] > ends[1] - ends[0]


@given(VIDEOS)
def test_it_stays_within_bounds_holds_the_share_and_is_never_narrower_than_wilsons(pairs):
    hits, videos = [hit for hit, _ in pairs], [video for _, video in pairs]
    interval = clustered_share(hits, videos)
    if interval is None:
        assert len(set(videos)) == 1
        return
    low, high = interval
    p, n = sum(hits) / len(hits), len(hits)
    assert 0 <= low <= p + 1e-9
    assert p - 1e-9 <= high <= 1
    if 0 < p < 1:
        wilson = binomtest(sum(hits), n).proportion_ci(method="wilson")
        assert high - low >= wilson.high - wilson.low - 1e-9


@given(VIDEOS)
def test_right_and_wrong_are_mirror_images(pairs):
    videos = [video for _, video in pairs]
    ends = clustered_share([hit for hit, _ in pairs], videos)
    mirrored = clustered_share([not hit for hit, _ in pairs], videos)
    if ends is not None:
        assert mirrored == pytest.approx((1 - ends[1], 1 - ends[0]), abs=1e-9)


def test_fifteen_thousand_questions_take_well_under_a_second():
    rng = np.random.default_rng(0)
    hits = (rng.random(15_000) < 0.6).tolist()
    videos = [f"v{i}" for i in rng.integers(0, 1000, 15_000)]
    start = time.perf_counter()
    clustered_share(hits, videos)
    assert time.perf_counter() - start < 0.5


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="as many clusters"):
        gather([1.0], ["a", "b"])
