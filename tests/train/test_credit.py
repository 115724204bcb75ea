from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longvideo_env.drivers.rollout import RolloutEngine
from longvideo_env.errors import SpecError
from train.rollouts.credit import EPSILON, Credit, Earned, earned_by_turns, turn_of_tokens

MakeTrainer = Callable[..., Any]
Write = Callable[..., None]

GROUND = "<reasoning>where</reasoning><request_grounding>the key</request_grounding>"
ANSWER = "<reasoning>so</reasoning><answer>a0</answer>"
A, B = ("v_seg01_clip_00",), ("v_seg01_clip_01",)


def test_by_hand() -> None:
    """Three episodes of one group, and the only episode of another group."""
    episodes = [
        Earned(0, (0.3, 1.0), (A, B)),
        Earned(0, (0.1, 0.0), (A, A)),
        Earned(0, (1.0,), (A,)),
        None,
        Earned(1, (0.5,), (A,)),
    ]
    by_turn = Credit("turn", weight=2.0).of(episodes)
    sigma = 0.2 / 2**0.5
    expected = 2 * 0.1 / (sigma + EPSILON)
    assert by_turn == [
        [pytest.approx(expected, abs=1e-7), 0.0],
        [pytest.approx(-expected, abs=1e-7), 0.0],
        [0.0],
        [],
        [0.0],
    ]
    # From A came 0.3 + 0.9 * 1, 0.1 and 0 of the second episode, 1 of the third; from B one turn.
    came = [1.2, 0.1, 0.0, 1.0]
    mean = sum(came) / 4
    sigma = (sum((value - mean) ** 2 for value in came) / 3) ** 0.5 + EPSILON
    z = [(value - mean) / sigma for value in came]
    by_state = Credit("state", discount=0.9).of(episodes)
    assert by_state[0] == [pytest.approx(z[0], abs=1e-7), 0.0]
    assert by_state[1] == [pytest.approx(z[1], abs=1e-7), pytest.approx(z[2], abs=1e-7)]
    assert by_state[2] == [pytest.approx(z[3], abs=1e-7)]
    assert by_state[3:] == [[], [0.0]]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.floats(-2, 2), min_size=1, max_size=5)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["turn", "state"]),
)
def test_what_is_added_sums_to_zero_over_those_compared(
    rows: list[tuple[int, list[float]]], kind: str
) -> None:
    episodes = [Earned(group, tuple(r), (A,) * len(r)) for group, r in rows]
    added = Credit(kind).of(episodes)
    assert [len(turns) for turns in added] == [len(r) for _, r in rows]
    for group in {group for group, _ in rows}:
        total = sum(sum(t) for t, (own, _) in zip(added, rows, strict=True) if own == group)
        assert total == pytest.approx(0, abs=1e-6)
    if kind == "turn":
        assert all(turns[-1] == 0 for turns in added)


def play(trainer: Any) -> dict[str, Tensor]:
    trainer.model.train()
    qid = trainer.train_dataset[0]["prompt"]
    batch: dict[str, Tensor] = trainer._generate_and_score_completions([{"prompt": qid}] * 4)
    return batch


@pytest.mark.parametrize("kind", ["turn", "state"])
def test_turns_earn_what_the_reward_grew_by(
    make_trainer: MakeTrainer, write_replies: Write, kind: str
) -> None:
    # The first episode grounds. The second is malformed. The others answer at once.
    rounds = [[GROUND, "nonsense", ANSWER, ANSWER], [ANSWER, ANSWER]]
    write_replies(lambda number, row: rounds[number][row])
    trainer = make_trainer("--credit", kind, "--reward", "paper,grounding=0.5")
    batch = play(trainer)
    rollouts = trainer.rollout_func
    engine: RolloutEngine = rollouts.engine
    episodes = [
        earned_by_turns(t, engine.dataset.task(t.qid), engine.game, group)
        for t, group in rollouts.played
    ]
    advantages = batch["advantages"]
    assert advantages.shape == batch["completion_ids"].shape
    for row, (earned, (played, _)) in enumerate(zip(episodes, rollouts.played, strict=True)):
        assert earned is not None
        assert len(earned.rewards) == len(played.turns)
        opened = 0.5 * bool(played.grounded_first)
        assert sum(earned.rewards) == pytest.approx((played.reward or 0.0) - opened)
        turns = turn_of_tokens(played)
        assert len(turns) == int(batch["completion_mask"][row].sum())
        for turn in set(turns):
            values = {advantages[row, i].item() for i, t in enumerate(turns) if t == turn}
            assert len(values) == 1, "all tokens of a turn share their credit"
    nonsense = episodes[1]
    assert nonsense is not None
    assert nonsense.rewards[0] == 0
    if kind == "turn":
        first, second = (advantages[row, 0] - advantages[row, -1] for row in (0, 1))
        assert first > 0 > second, "a turn in order is better than nonsense"


def test_without_weight_it_is_the_episode_s_credit(
    make_trainer: MakeTrainer, write_replies: Write
) -> None:
    losses = []
    for more in ([], ["--credit", "state", "--credit_weight", "0"]):
        rounds = [[GROUND, "nonsense", ANSWER, ANSWER], [ANSWER, ANSWER]]
        write_replies(lambda number, row, rounds=rounds: rounds[number][row])
        trainer = make_trainer(*more)
        trainer.current_gradient_accumulation_steps = 1  # set by train()
        batch = play(trainer)
        with torch.no_grad():
            losses.append(trainer._compute_loss(trainer.model, batch))
    assert torch.allclose(*losses, rtol=0, atol=1e-7)


def test_an_episode_without_reward_gets_none() -> None:
    earned = Earned(0, (1.0,), (A,))
    assert Credit("turn").of([None, earned, None]) == [[], [0.0], []]


def test_an_unknown_kind_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(SpecError, match="credit must be one of episode, turn, state"):
        make_trainer("--credit", "token")
