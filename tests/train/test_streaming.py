import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from longvideo_env.game.game import default_game
from longvideo_env.game.policy import Context, Reply, TextCodec
from longvideo_env.records.trajectory import Segment, Trajectory
from longvideo_env.schema import Question
from train.rollouts.overlapped import Request
from train.rollouts.streaming import StreamingPolicy

QUESTION = Question("q", "Why?", ("a", "b"), "v")


def episode(
    policy: StreamingPolicy, token: int, turns: int
) -> Callable[[], Coroutine[Any, Any, Trajectory]]:
    async def play() -> Trajectory:
        replies = []
        for turn in range(1, turns + 1):
            segment = Segment("user", "", token_ids=(token,))
            context = Context(QUESTION, default_game(), [], [], [segment], turn, seed=turn)
            replies.append((await policy.act(context)).text)
        return Trajectory(token, "v", "p", 0, 0, "answered", 2, (), (), error=" ".join(replies))

    return play


class Engine:
    """Records how many replies were generated at once."""

    def __init__(self) -> None:
        self.most = self.now = 0

    async def generate(self, request: Request) -> Reply:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.005)
        self.now -= 1
        return Reply(f"{request.token_ids[0]}/{request.seed}")


def test_plays_all_at_once_and_keeps_their_order() -> None:
    policy, engine = StreamingPolicy(TextCodec()), Engine()
    played = policy.play([episode(policy, i, 1 + i % 3) for i in range(9)], engine.generate)
    assert [t.qid for t in played] == list(range(9))
    assert played[5].error == "5/1 5/2 5/3", "each reply goes to who asked for it"
    assert engine.most == 9
    assert policy.play([], engine.generate) == []


def test_concurrency_bounds_the_episodes_under_way() -> None:
    policy, engine = StreamingPolicy(TextCodec(), concurrency=3), Engine()
    assert len(policy.play([episode(policy, i, 2) for i in range(8)], engine.generate)) == 8
    assert engine.most == 3
    with pytest.raises(ValueError, match="concurrency must be at least 1"):
        StreamingPolicy(TextCodec(), concurrency=0)


def test_what_generation_raises_comes_out_and_ends_the_episodes() -> None:
    policy = StreamingPolicy(TextCodec())
    ended = threading.Event()

    async def generate(request: Request) -> Reply:
        if request.token_ids[0] == 1:
            raise MemoryError("no room")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("it went on")

    with pytest.raises(MemoryError, match="no room"):
        policy.play([episode(policy, 2, 1), episode(policy, 1, 1)], generate)
    assert ended.wait(5)


def test_plays_where_an_event_loop_is_running_already() -> None:
    policy, engine = StreamingPolicy(TextCodec()), Engine()

    async def notebook_cell() -> list[Trajectory]:
        return policy.play([episode(policy, i, 2) for i in range(3)], engine.generate)

    assert len(asyncio.run(notebook_cell())) == 3
