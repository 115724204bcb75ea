import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from longvideo_env.game.game import default_game
from longvideo_env.game.policy import Context, Reply, TextCodec
from longvideo_env.records.trajectory import Segment, Trajectory
from longvideo_env.schema import Question
from train.rollouts.lockstep import LockstepPolicy
from train.rollouts.overlapped import Request

QUESTION = Question("q", "Why?", ("a", "b"), "v")


def context(token: int, turn: int) -> Context:
    segment = Segment("user", "", token_ids=(token,))
    return Context(QUESTION, default_game(), [], [], [segment], turn, seed=token * 10 + turn)


def episode(
    policy: LockstepPolicy, token: int, turns: int, waits_s: float = 0.0
) -> Callable[[], Coroutine[Any, Any, Trajectory]]:
    """Plays some turns, and waits for a tool after each."""

    async def play() -> Trajectory:
        texts = []
        for turn in range(1, turns + 1):
            texts.append((await policy.act(context(token, turn))).text)
            await asyncio.sleep(waits_s)
        segments = tuple(Segment("assistant", text) for text in texts)
        return Trajectory(token, "v", "p", 0, 0, "answered", 2, (), segments)

    return play


class Generator:
    """Records the batches of its calls."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        self.batches.append(sorted(request.token_ids[0] for request in requests))
        self.threads.add(threading.get_ident())
        return [Reply(f"{request.token_ids[0]}/{request.seed}") for request in requests]


def texts(trajectory: Trajectory) -> list[str]:
    return [segment.text for segment in trajectory.segments]


def test_all_that_wait_share_a_batch_even_if_their_tools_take_different_times() -> None:
    policy, generate = LockstepPolicy(TextCodec()), Generator()
    starts = [episode(policy, i, turns=i, waits_s=0.01 * i) for i in range(1, 4)]
    played = policy.play(starts, generate)
    assert generate.batches == [[1, 2, 3], [2, 3], [3]]
    assert [t.qid for t in played] == [1, 2, 3]
    assert texts(played[2]) == ["3/31", "3/32", "3/33"], "each reply goes to who asked for it"


def test_generates_in_the_thread_that_called() -> None:
    # The current CUDA device, autocast and collectives belong to that thread.
    policy, generate = LockstepPolicy(TextCodec()), Generator()
    policy.play([episode(policy, 1, 2)], generate)
    assert generate.threads == {threading.get_ident()}


def test_concurrency_bounds_the_batch() -> None:
    policy, generate = LockstepPolicy(TextCodec(), concurrency=2), Generator()
    played = policy.play([episode(policy, i, turns=2) for i in range(5)], generate)
    assert [t.qid for t in played] == [0, 1, 2, 3, 4]
    assert max(map(len, generate.batches)) == 2
    assert sum(map(len, generate.batches)) == 10
    with pytest.raises(ValueError, match="concurrency must be at least 1"):
        LockstepPolicy(TextCodec(), concurrency=0)


def test_no_episodes_and_episodes_that_never_ask() -> None:
    policy, generate = LockstepPolicy(TextCodec()), Generator()
    assert policy.play([], generate) == []
    assert len(policy.play([episode(policy, 1, turns=0)], generate)) == 1
    assert generate.batches == []


def test_plays_where_an_event_loop_is_running_already() -> None:
    policy, generate = LockstepPolicy(TextCodec()), Generator()

    async def notebook_cell() -> list[Trajectory]:
        return policy.play([episode(policy, i, turns=2) for i in range(3)], generate)

    assert len(asyncio.run(notebook_cell())) == 3


def test_what_an_episode_raises_comes_out_at_once() -> None:
    policy, generate = LockstepPolicy(TextCodec()), Generator()

    async def broken() -> Trajectory:
        await policy.act(context(7, 1))
        raise RuntimeError("a bug in the engine")

    agreed: list[bool] = []

    def agree(more: bool) -> bool:
        agreed.append(more)
        return True

    with pytest.raises(RuntimeError, match="a bug in the engine"):
        policy.play([broken, episode(policy, 1, turns=99)], generate, agree)
    assert False not in agreed, "it must not wait for other processes first"
    assert len(policy.play([episode(policy, 1, turns=1)], generate)) == 1, "it can be used again"


def test_what_generation_raises_comes_out_and_ends_the_episodes() -> None:
    policy = LockstepPolicy(TextCodec())
    ended = threading.Event()

    async def waiting() -> Trajectory:
        try:
            await policy.act(context(1, 1))
        finally:
            ended.set()
        raise AssertionError("it got a reply")

    def generate(requests: Sequence[Request]) -> list[Reply]:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        policy.play([waiting], generate)
    assert ended.wait(5)


def test_takes_part_until_all_processes_are_done() -> None:
    policy, generate = LockstepPolicy(TextCodec()), Generator()
    agreed: list[bool] = []

    def agree(more: bool) -> bool:
        agreed.append(more)
        return len(agreed) <= 5  # others have requests for five rounds

    played = policy.play([episode(policy, 1, turns=2)], generate, agree)
    assert len(played) == 1
    assert agreed == [True, True, False, False, False, False]
    assert generate.batches == [[1], [1], [], [], []]


def test_overlapped_a_slow_tool_holds_up_nobody_else() -> None:
    policy, generate = LockstepPolicy(TextCodec()), Generator()
    starts = [episode(policy, 1, 3), episode(policy, 2, 3), episode(policy, 3, 2, waits_s=0.5)]
    played = policy.play(starts, generate, overlap=True)
    assert [t.qid for t in played] == [1, 2, 3]
    assert texts(played[2]) == ["3/31", "3/32"], "each reply goes to who asked for it"
    assert generate.batches == [[1, 2, 3], [1, 2], [1, 2], [3]]


def test_overlapped_and_in_lockstep_make_the_same_batches_where_no_tool_waits() -> None:
    batches = []
    for overlap in (False, True):
        policy, generate = LockstepPolicy(TextCodec(), concurrency=4), Generator()
        policy.play(
            [immediate(policy, i, turns=1 + i % 4) for i in range(9)], generate, overlap=overlap
        )
        batches.append(generate.batches)
    assert batches[0] == batches[1]


def immediate(
    policy: LockstepPolicy, token: int, turns: int
) -> Callable[[], Coroutine[Any, Any, Trajectory]]:
    """Plays some turns with tools that never suspend."""

    async def play() -> Trajectory:
        for turn in range(1, turns + 1):
            await policy.act(context(token, turn))
        return Trajectory(token, "v", "p", 0, 0, "answered", 2, (), ())

    return play


def test_overlapped_what_comes_while_a_batch_is_made_joins_the_next() -> None:
    policy, generate = LockstepPolicy(TextCodec()), Generator()

    def slowly(requests: Sequence[Request]) -> list[Reply]:
        time.sleep(0.1)
        return generate(requests)

    starts = [episode(policy, 1, 2), *(episode(policy, i, 2, waits_s=0.02) for i in (2, 3))]
    policy.play(starts, slowly, overlap=True)
    assert generate.batches == [[1, 2, 3], [1], [2, 3]]
