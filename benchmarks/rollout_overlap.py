r"""Compare rollouts per second, overlapped and in lockstep, with tools as slow as real ones.

    python benchmarks/rollout_overlap.py            # under two minutes, nearly all of it asleep
    python benchmarks/rollout_overlap.py --draws 1 --scale 0.1   # a tenth of every wait

The drivers of training play episodes of `mini`. Each tool call, also the opening grounding, sleeps
for a log-normal time with the mean and sigma of the options. The generator is simulated: a reply
has a log-normal number of tokens, and each token takes a fixed time. An episode has 2 to 5 turns.
Latencies, lengths and turns depend only on the question and the turn, so every driver has the same
waits.

| driver | a reply is generated |
|---|---|
| lockstep | with those of all other episodes, when all wait for one; the batch takes as long as its longest |
| overlapped, micro-batches | with those that are ready, when the last batch is done (transformers) |
| overlapped | at once, beside all others: continuous batching (vLLM) |

The ideal is the time of the longest episode played alone. All episodes are in flight from the
start, so no driver can be faster. The tools of a lockstep turn run concurrently here. In some
trainers synchronous tools run one after another, and lockstep takes many times as long.
"""  # noqa: E501 - a table

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from longvideo_env import EnvConfig, RolloutEngine, load_dataset
from longvideo_env.datasets import Dataset
from longvideo_env.game.policy import Message, Policy, Reply
from longvideo_env.game.protocol.base import ReplyProtocol
from longvideo_env.records.trajectory import Segment, Trajectory
from longvideo_env.seeding import derive_seed
from longvideo_env.testing import toolbox_of
from longvideo_env.tools.tool import ToolCall, ToolReply
from train.rollouts.lockstep import LockstepPolicy
from train.rollouts.overlapped import Request, Start
from train.rollouts.streaming import StreamingPolicy

TURNS = (2, 5)


@dataclass(frozen=True)
class World:
    """The times of all waits, in seconds.

    Attributes:
        seed: Seed of one draw of all waits.
        latency_s: Mean latency of a tool.
        latency_sigma: Standard deviation of its logarithm.
        tokens: Mean number of tokens of a reply.
        tokens_sigma: Standard deviation of its logarithm.
        token_s: Time of a token.
        scale: Multiplies every wait.
    """

    seed: int
    latency_s: float
    latency_sigma: float
    tokens: float
    tokens_sigma: float
    token_s: float
    scale: float

    def tool_s(self, *what: int | str) -> float:
        """The latency of a tool call."""
        return self.latency_s * self._lognormal(self.latency_sigma, "tool", *what) * self.scale

    def reply_s(self, request: Request) -> float:
        """The time of a reply."""
        n_tokens = self.tokens * self._lognormal(self.tokens_sigma, "reply", *request.token_ids)
        return n_tokens * self.token_s * self.scale

    def turns(self, question: int) -> int:
        """The number of turns of an episode."""
        rng = np.random.default_rng(derive_seed(self.seed, "turns", question))
        return int(rng.integers(TURNS[0], TURNS[1] + 1))

    def _lognormal(self, sigma: float, *what: int | str) -> float:
        """A draw with mean 1."""
        rng = np.random.default_rng(derive_seed(self.seed, *what))
        return float(rng.lognormal(-(sigma**2) / 2, sigma))

    def write(self, request: Request) -> Reply:
        """Write a look until the last turn, then an answer."""
        question, turn = request.token_ids[0], len(request.token_ids)
        if turn < self.turns(question):
            return Reply(f"<search>{question} {turn}</search>")
        return Reply("<answer>a0</answer>")


class TurnCodec:
    """One token for the question and one for each turn, which is all that the generator needs."""

    protocol: ReplyProtocol

    def open(self, messages: Sequence[Message]) -> list[Segment]:
        """A token for the question."""
        text = messages[-1]["content"]
        return [Segment("prompt", text, token_ids=(derive_seed(text),))]

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        """No tokens."""
        return []

    def observe(self, text: str, turn: int) -> list[Segment]:
        """A token for the turn."""
        return [Segment("user", text, turn=turn, token_ids=(turn,))]


@dataclass(frozen=True)
class SleepingTools:
    """Both agents. They sleep, and give any valid reply."""

    world: World
    immediate = False

    async def ground(self, request: ToolCall, /) -> ToolReply:
        """Name a clip that was not visited."""
        await asyncio.sleep(self.world.tool_s("ground", str(request.question.qid)))
        return ToolReply(request.unvisited[0])

    async def look(self, request: ToolCall, /) -> ToolReply:
        """Give a fixed description."""
        await asyncio.sleep(self.world.tool_s("look", str(request.query)))
        return ToolReply("somebody does something")


def lockstep(world: World, overlap: bool, n: int) -> tuple[Policy, Callable[..., list[Trajectory]]]:
    """The driver of transformers."""

    def generate(requests: Sequence[Request]) -> list[Reply]:
        time.sleep(max(map(world.reply_s, requests)))
        return [world.write(request) for request in requests]

    policy = LockstepPolicy(TurnCodec(), n)
    return policy, lambda episodes: policy.play(episodes, generate, overlap=overlap)


def streaming(world: World, n: int) -> tuple[Policy, Callable[..., list[Trajectory]]]:
    """The driver of vLLM."""

    async def generate(request: Request) -> Reply:
        await asyncio.sleep(world.reply_s(request))
        return world.write(request)

    policy = StreamingPolicy(TurnCodec(), n)
    return policy, lambda episodes: policy.play(episodes, generate)


def play(
    driver: tuple[Policy, Callable[..., list[Trajectory]]], world: World, dataset: Dataset
) -> tuple[float, list[Trajectory]]:
    """Play all episodes. Returns their seconds, and the episodes."""
    policy, run = driver
    tools = SleepingTools(world)
    engine = RolloutEngine(
        dataset=dataset,
        config=EnvConfig(max_turns=TURNS[1]),
        toolbox=toolbox_of(tools, tools, timeout_s=3600.0),
        policy=policy,
        policy_spec="simulated",
    )
    episodes: list[Start] = [partial(engine.play, task) for task in dataset.tasks]
    start = time.perf_counter()
    played = run(episodes)
    return time.perf_counter() - start, played


def ideal_s(trajectories: Sequence[Trajectory]) -> float:
    """The time of the longest episode, for a driver whose episodes never wait for others."""
    return max(t.timings.model_s + t.timings.tools_s for t in trajectories)


def measure(world: World, dataset: Dataset) -> dict[str, float]:
    """The seconds of each driver in one draw, and the ideal."""
    n = len(dataset.tasks)
    seconds: dict[str, float] = {}
    seconds["lockstep"], first = play(lockstep(world, False, n), world, dataset)
    seconds["overlapped, micro-batches"], second = play(lockstep(world, True, n), world, dataset)
    seconds["overlapped"], third = play(streaming(world, n), world, dataset)
    texts = [[[s.text for s in t.segments] for t in played] for played in (first, second, third)]
    if texts[0] != texts[1] or texts[1] != texts[2]:
        raise RuntimeError("the drivers played different episodes.")
    seconds["ideal"] = ideal_s(third)
    return seconds


def main() -> None:
    """Measure, and print the table. The last line is the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--draws", type=int, default=3, help="Number of draws of the waits.")
    parser.add_argument("--latency", type=float, default=1.0, help="Mean seconds of a tool call.")
    parser.add_argument("--sigma", type=float, default=0.8, help="Sigma of the log of latencies.")
    parser.add_argument("--tokens", type=float, default=100.0, help="Mean tokens of a reply.")
    parser.add_argument("--tokens-sigma", type=float, default=0.8)
    parser.add_argument("--token-s", type=float, default=0.01, help="Seconds per token.")
    parser.add_argument("--scale", type=float, default=1.0, help="Multiplies every wait.")
    args = parser.parse_args()
    dataset = load_dataset("mini", "train")
    dataset = replace(dataset, tasks=dataset.tasks[: args.episodes])
    waits = (args.latency, args.sigma, args.tokens, args.tokens_sigma, args.token_s, args.scale)
    draws = [measure(World(seed, *waits), dataset) for seed in range(args.draws)]
    total = {name: sum(draw[name] for draw in draws) for name in draws[0]}
    print(f"{args.draws} draws of {args.episodes} episodes")
    print(f"{'driver':<28}{'seconds':>10}{'rollouts/s':>12}{'x lockstep':>12}   least - most")
    for name, seconds in total.items():
        ratios = [draw["lockstep"] / draw[name] for draw in draws]
        rate = args.episodes * args.draws / seconds
        spread = f"{min(ratios):.2f} - {max(ratios):.2f}"
        mean = statistics.fmean(draw[name] for draw in draws)
        print(
            f"{name:<28}{mean:>10.2f}{rate:>12.2f}{total['lockstep'] / seconds:>12.2f}   {spread}"
        )
    faster = total["lockstep"] / total["overlapped"]
    print(f"{faster:.2f} x lockstep, {total['ideal'] / total['overlapped']:.2f} of ideal")


if __name__ == "__main__":
    main()
