"""The rollout engine: plays episodes, one coroutine each, with a bound on those in flight.

While some episodes wait for a tool, others generate; a policy may batch underneath. The engine is
a driver of `Episode`: the rules of the game are not here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.kinds import question_kind
from longvideo_env.errors import PolicyError
from longvideo_env.game.episode import Ended, Episode, Observation
from longvideo_env.game.policy import Context, Policy, Reply
from longvideo_env.game.reward import Play, parse_reward, score
from longvideo_env.game.rules import Rules
from longvideo_env.options import pinned_options
from longvideo_env.records.trajectory import Segment, Timings, Trajectory
from longvideo_env.schema import Task
from longvideo_env.seeding import derive_seed, draw_option_order
from longvideo_env.tools.toolbox import Toolbox, ToolRequest, ToolResult


@dataclass
class _Record:
    """What a coroutine notes down while it plays."""

    seed: int
    segments: list[Segment] = field(default_factory=list)
    model_s: float = 0.0
    tools_s: float = 0.0
    start: float = field(default_factory=time.perf_counter)

    def timings(self) -> Timings:
        total = time.perf_counter() - self.start
        return Timings(self.model_s, self.tools_s, total - self.model_s - self.tools_s, total)


class RolloutEngine:
    """Plays tasks with a policy.

    Args:
        dataset: Where the tasks' videos are.
        config: The environment.
        toolbox: Its agents (see `specs.build_toolbox`).
        policy: The master agent.
        policy_spec: Its spec, for the record.
        seed: Every episode's seed derives from it, the question and the sample.
        concurrency: The most episodes in flight at once.

    Raises:
        SpecError: The configuration's reward has no meaning.
        ValueError: `concurrency` is below 1.
    """

    def __init__(
        self,
        *,
        dataset: Dataset,
        config: EnvConfig,
        toolbox: Toolbox,
        policy: Policy,
        policy_spec: str,
        seed: int = 0,
        concurrency: int = 64,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}.")
        self.dataset = dataset
        self.config = config
        self.rules = Rules.from_config(config)
        self.weights = parse_reward(config.reward)
        self.toolbox = toolbox
        self.policy = policy
        self.policy_spec = policy_spec
        self.seed = seed
        self.concurrency = concurrency

    async def play(
        self,
        task: Task,
        sample: int = 0,
        *,
        seed: int | None = None,
        question_seed: int | None = None,
    ) -> Trajectory:
        """Play one episode. A tool or policy that fails makes a failed trajectory, not an error.

        Args:
            task: The question with its gold; only the reward sees the gold.
            sample: Which of several plays of the same question.
            seed: The episode's seed; by default it derives from the engine's, the question and
                the sample.
            question_seed: Seeds what all samples of a question share: the order of its options,
                and what its tools draw; by default the engine's.
        """
        if seed is None:
            seed = derive_seed(self.seed, task.qid, sample)
        shared = self.seed if question_seed is None else question_seed
        order = None
        if self.config.shuffle_options:
            pinned = pinned_options(task.question.options)
            order = draw_option_order(len(task.question.options), shared, task.qid, pinned=pinned)
            task = task.reorder(order)
        video = self.dataset.video(task.question)
        tool_seed = derive_seed(shared, task.qid)
        episode = Episode(task.question, video, self.rules, tool_seed)
        record = _Record(seed)
        try:
            await self._drive(episode, record)
        except PolicyError as error:
            episode.fail(f"policy ({self.policy_spec}): {error}")
        return self._trajectory(task, episode, record, sample, order)

    async def play_all(self, jobs: Iterable[tuple[Task, int]]) -> AsyncIterator[Trajectory]:
        """Play many episodes, each a task and its sample, and yield them as they finish."""
        todo = iter(jobs)
        # A queue of one makes episodes come out as they finish, even if none ever has to wait.
        done: asyncio.Queue[Trajectory | BaseException | None] = asyncio.Queue(maxsize=1)

        async def work() -> None:
            try:
                for task, sample in todo:
                    await done.put(await self.play(task, sample))
            except Exception as error:  # noqa: BLE001 - handed on, and raised by the consumer
                await done.put(error)
            await done.put(None)

        workers = [asyncio.ensure_future(work()) for _ in range(self.concurrency)]
        try:
            left = len(workers)
            while left:
                item = await done.get()
                if item is None:
                    left -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _drive(self, episode: Episode, record: _Record) -> None:
        codec = self.policy.codec
        request = episode.start()
        if request is not None:
            move = episode.receive(await self._call(request, record))
            if isinstance(move, Ended):
                return
        record.segments += codec.open(episode.messages)
        while episode.status is None:
            turn = episode.turn
            reply = await self._act(episode, record)
            if reply.finish == "context" and not reply.text:
                episode.stop_for_context()
                return
            record.segments.append(_sampled(reply, turn))
            step = episode.reply(reply.prefix + reply.text, reply.finish, reply.usage)
            if not (isinstance(step, Ended) and reply.finish == "length"):
                # A reply that was cut off at the very end stays open: it really is truncated.
                record.segments += codec.close(reply, turn)
            if not isinstance(step, Observation | Ended):
                step = episode.receive(await self._call(step, record))
            if isinstance(step, Observation):
                record.segments += codec.observe(step.text, turn)

    async def _act(self, episode: Episode, record: _Record) -> Reply:
        context = Context(
            question=episode.question,
            rules=self.rules,
            messages=episode.messages,
            segments=record.segments,
            turn=episode.turn,
            seed=derive_seed(record.seed, "policy", episode.turn),
        )
        start = time.perf_counter()
        try:
            return await self.policy.act(context)
        finally:
            record.model_s += time.perf_counter() - start

    async def _call(self, request: ToolRequest, record: _Record) -> ToolResult:
        result = await self.toolbox.call(request)
        record.tools_s += result.latency_s
        return result

    def _trajectory(
        self,
        task: Task,
        episode: Episode,
        record: _Record,
        sample: int,
        order: tuple[int, ...] | None,
    ) -> Trajectory:
        result = score(play_of(episode), task.gold, self.weights)
        return Trajectory(
            qid=task.qid,
            video_id=task.question.video_id,
            policy=self.policy_spec,
            sample=sample,
            seed=record.seed,
            status=play_of(episode).status,
            n_options=len(task.question.options),
            turns=tuple(episode.turns),
            segments=tuple(record.segments),
            show=task.question.show,
            kind=question_kind(task.question.text),
            leaky=self.config.unsafe_boxes,
            visited=tuple(episode.visited),
            choice=episode.choice,
            option_order=order,
            error=episode.error,
            first=episode.first,
            correct=result.correct,
            grounded=result.grounded,
            grounded_first=result.grounded_first,
            reward=result.reward,
            reward_terms=result.terms,
            timings=record.timings(),
        )


def play_of(episode: Episode) -> Play:
    """What reward and metrics need to know of an episode that has ended."""
    assert episode.status is not None, "the episode goes on"
    return Play(
        episode.status,
        episode.choice,
        episode.parsed,
        episode.turns,
        episode.visited,
        episode.opened_at,
    )


def _sampled(reply: Reply, turn: int) -> Segment:
    return Segment(
        "assistant",
        reply.text,
        sampled=True,
        turn=turn,
        token_ids=reply.token_ids,
        logprobs=reply.logprobs,
    )
