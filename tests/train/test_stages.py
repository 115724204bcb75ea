import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env import EnvConfig
from longvideo_env.errors import SpecError
from train.teaching.stages import Stage, build_stages, order_by_length, play


def test_one_value_stands_for_all_stages():
    stages = build_stages(["random", "teacher:mini"], ["embedded"], [4, 8], [1])
    assert stages == [Stage("random", "embedded", 4, 1), Stage("teacher:mini", "embedded", 8, 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((["a", "b", "c"], ["mini"], [1, 2], [1]), "teacher_episodes: expected one value"),
        ((["a"], ["mini"], [0], [1]), "teacher_episodes must be at least 1"),
        ((["a"], ["mini"], [1], [-1]), "teacher_epochs must be at least 1"),
        ((["a"], ["mini"], [1], [1], [0.0]), "teacher_rate must be above 0"),
        ((["a"], ["mini"], [1], [1], [1.0, 0.5]), "teacher_rate: expected one value"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        build_stages(*options)


def test_a_teacher_plays_as_often_as_asked_and_the_same_again():
    stage = Stage("teacher:mini:0.5:0.2", "mini:videos=2", episodes=19, epochs=1)
    first, again, other = (
        [(t.qid, t.sample, [s.text for s in t.segments]) for t in play(stage, EnvConfig(), seed)]
        for seed in (3, 3, 4)
    )
    assert len(first) == 19
    assert first == again
    assert first != other


@given(
    lengths=st.lists(st.integers(1, 500), min_size=4, max_size=300),
    batch=st.integers(1, 4),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_every_episode_comes_once_an_epoch_but_for_the_rest(lengths, batch, epochs, seed):
    order = order_by_length(lengths, epochs, batch, np.random.default_rng(seed))
    per_epoch = len(lengths) // batch * batch
    assert len(order) == per_epoch * epochs
    for start in range(0, len(order), per_epoch):
        assert len(set(order[start : start + per_epoch])) == per_epoch
    assert order == order_by_length(lengths, epochs, batch, np.random.default_rng(seed))


def test_a_batch_holds_like_lengths_and_batches_come_at_random():
    lengths = [i % 97 for i in range(32 * 8)]
    order = order_by_length(lengths, 1, 8, np.random.default_rng(0))
    batches = [[lengths[i] for i in order[k : k + 8]] for k in range(0, len(order), 8)]
    assert max(max(batch) - min(batch) for batch in batches) <= 4
    starts = [batch[0] for batch in batches]
    assert starts != sorted(starts)


def test_too_few_episodes_for_a_batch_are_refused():
    with pytest.raises(SpecError, match="a batch needs 4 episodes, but a stage has 3"):
        order_by_length([1, 2, 3], 1, 4, np.random.default_rng(0))
