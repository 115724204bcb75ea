"""Questions are drawn by their share of right answers. A resumed run draws the same."""

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("trl")
from longvideo_env.errors import DataError
from train.curriculum import FILE, FLOOR, Curriculum, CurriculumSampler
from train.progress_line import duration, progress_line


def sampler(curriculum: Curriculum, n: int) -> CurriculumSampler:
    return CurriculumSampler(
        curriculum=curriculum,
        data_source=range(n),
        mini_repeat_count=2,
        batch_size=3,
        repeat_count=2,
    )


def test_what_is_always_or_never_right_comes_less_often() -> None:
    curriculum = Curriculum(4, seed=0)
    assert list(curriculum.weights) == [1, 1, 1, 1]
    curriculum.count([(0, True)] * 16 + [(1, False)] * 16 + [(2, True), (2, False)] * 8)
    easy, hard, some, fresh = curriculum.weights
    assert (easy, hard) == pytest.approx((4 * 17 / 18 / 18,) * 2)
    assert some == fresh == 1
    curriculum.count([(0, True)] * 1000)
    assert curriculum.weights[0] == FLOOR
    drawn = Counter(curriculum.draw(0, number, 1)[0] for number in range(400))
    assert drawn[0] + drawn[1] < drawn[2] / 2
    assert curriculum.figures == {
        "curriculum/met": 0.75, "curriculum/always_right": 0.25, "curriculum/never_right": 0.25,
    }  # fmt: skip


def test_the_order_is_trls_and_follows_the_counts() -> None:
    curriculum = Curriculum(7, seed=3)
    order = list(sampler(curriculum, 7))
    assert len(order) == 2 * 3 * 2 * 2  # two whole batches of three, each question twice, twice
    first = order[:6]
    assert first == order[6:12]
    assert first[::2] == first[1::2]
    assert len(set(first)) == 3
    assert list(sampler(Curriculum(7, seed=3), 7)) == order
    assert list(sampler(Curriculum(7, seed=4), 7)) != order


def test_a_resumed_curriculum_draws_what_it_drew_and_goes_on_alike(tmp_path: Path) -> None:
    whole = Curriculum(30, seed=1)
    early = [whole.draw(0, number, 3) for number in range(4)]
    whole.count([(place, False) for place in range(25)] * 20)
    whole.save(tmp_path)
    again = Curriculum(30, seed=1)
    again.load(tmp_path)
    assert [again.draw(0, number, 3) for number in range(4)] == early
    assert [again.draw(0, n, 3) for n in range(4, 9)] == [whole.draw(0, n, 3) for n in range(4, 9)]
    with pytest.raises(DataError, match="has 30 questions, but the run has 29"):
        Curriculum(29, seed=1).load(tmp_path)
    (tmp_path / FILE).write_text('{"right": [')
    with pytest.raises(DataError, match="cannot be read"):
        again.load(tmp_path)


def test_the_progress_line_says_what_one_wants_to_know() -> None:
    logs = {
        "reward": 0.8123, "episodes/accuracy": 0.78, "episodes/turns": 1.94,
        "episodes/failed": 0.0, "time/tokens_per_s": 310.4,
    }  # fmt: skip
    assert progress_line(63, 150, logs, 185.0) == (
        "step 63/150: reward 0.81, right 0.78, turns 1.9, 310 tokens/s, 3 min 05 s left"
    )
    assert "failed 0.25" in progress_line(1, 2, logs | {"episodes/failed": 0.25}, None)
    assert [duration(s) for s in (44.6, 60, 7800)] == ["45 s", "1 min 00 s", "2 h 10 min"]
