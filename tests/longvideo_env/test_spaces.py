import pickle

import numpy as np
import pytest
from gymnasium.vector.utils import batch_space

from longvideo_env.config import EnvConfig
from longvideo_env.drivers.spaces import ReplySpace, TextSpace
from longvideo_env.game.game import Game, default_game
from longvideo_env.game.protocol.base import Action


def test_any_prose_up_to_the_length_is_contained():
    space = TextSpace(max_length=10)
    for text in ("", "żółw 🐢", "\x00\n", "x" * 10):
        assert text in space
    for other in ("x" * 11, None, 3, b"bytes", np.str_):
        assert other not in space


def test_samples_are_seeded_and_contained():
    first, second = TextSpace(seed=4), TextSpace(seed=4)
    assert first.sample() == second.sample()
    assert first.sample() in first
    with pytest.raises(ValueError, match="without a mask"):
        first.sample(mask="x")


@pytest.mark.parametrize("can_look", [True, False])
def test_sampled_replies_are_well_formed_and_on_offer(can_look):
    game = Game.from_config(EnvConfig(vision="captions" if can_look else "none"))
    assert ("look" in game.actions) is can_look
    space = ReplySpace(game, n_options=3, seed=0)
    kinds = set()
    for _ in range(200):
        outcome = game.protocol.parse(space.sample(), 3).outcome
        assert isinstance(outcome, Action)
        kinds.add(outcome.name)
    assert kinds == set(game.actions)


def test_equality_json_and_pickle():
    assert TextSpace(5) == TextSpace(5) != TextSpace(6)
    assert TextSpace() != ReplySpace(default_game())
    space = TextSpace()
    assert space.from_jsonable(space.to_jsonable(["a", "ż"])) == ["a", "ż"]
    assert pickle.loads(pickle.dumps(space)) == space
    assert len(pickle.dumps(space)) < 1000
    assert not space.is_np_flattenable


def test_batches_are_tuples_of_spaces():
    assert ("a", "b") in batch_space(TextSpace(), 2)
