"""The rollout engine plays episodes, one coroutine each, with a limit on those in flight.

While some episodes wait for a tool, others generate. A policy may batch its requests. The engine
only drives `Episode`, which holds the rules of the game.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from longvideo_env.choices import pinned_options
from longvideo_env.config import EnvConfig
from longvideo_env.datasets import Dataset
from longvideo_env.datasets.kinds import question_kind
from longvideo_env.errors import ActionError, PolicyError
from longvideo_env.game.episode import Ended, Episode
from longvideo_env.game.game import Game
from longvideo_env.game.judging import build_judge
from longvideo_env.game.policy import Context, Observation, Policy, Reply, let_see
from longvideo_env.game.reward import Play, score_async
from longvideo_env.records.trajectory import Segment, Timings, Trajectory, TurnRecord
from longvideo_env.redaction import cleanse
from longvideo_env.schema import Task
from longvideo_env.seeding import derive_seed, draw_option_order
from longvideo_env.strict import plain_text
from longvideo_env.timeline import seconds_of
from longvideo_env.tools.tool import ToolCall, ToolResult
from longvideo_env.tools.toolbox import Toolbox

IsOver: TypeAlias = Callable[[TurnRecord | None, Sequence[TurnRecord], Sequence[Segment]], bool]
"""Takes the opening call, the turns and the segments so far. True: no further turn may be
played."""


@dataclass
class _Record:
    """What a coroutine records while it plays."""

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
        dataset: The dataset with the tasks' videos.
        config: The environment.
        toolbox: Its agents (see `longvideo_env.tools.registry.build_toolbox`).
        policy: The master agent.
        policy_spec: The policy's spec, kept in the trajectory.
        seed: Each episode's seed is derived from this, the question and the sample.
        concurrency: Maximum number of episodes in flight.
        is_over: Called before each turn. True ends the episode because its budget is used up.
        episode_s: Maximum seconds of an episode. A longer episode fails.

    Raises:
        SpecError: The configuration's reward is invalid.
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
        is_over: IsOver | None = None,
        episode_s: float | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}.")
        self.dataset = dataset
        self.config = config
        self.game = Game.from_config(config)
        self.toolbox = toolbox
        self.judge = build_judge(self.game, toolbox)
        self.policy = policy
        if config.frames:
            let_see(policy, policy_spec, config.resolution)
        policy.codec.protocol = self.game.protocol
        self.policy_spec = policy_spec
        self.seed = seed
        self.concurrency = concurrency
        self.is_over = is_over
        self.episode_s = episode_s

    async def play(
        self,
        task: Task,
        sample: int = 0,
        *,
        seed: int | None = None,
        question_seed: int | None = None,
    ) -> Trajectory:
        """Play one episode.

        If a tool or the policy fails, the trajectory is `failed`; no error is raised.

        Args:
            task: The question with its gold. Only the reward sees the gold.
            sample: Index of this play among several plays of the same question.
            seed: The episode's seed. By default derived from the engine's seed, the question and
                the sample.
            question_seed: Seed of what all samples of a question share: the order of options and
                the random draws of tools. By default the engine's seed.
        """
        if seed is None:
            seed = derive_seed(self.seed, task.qid, sample)
        shared = self.seed if question_seed is None else question_seed
        shuffle = self.config.shuffle_options
        opened = open_episode(task, self.dataset, self.game, shared, shuffle=shuffle)
        task, order, episode = opened.task, opened.order, opened.episode
        record = _Record(seed)
        try:
            await asyncio.wait_for(self._drive(episode, record), self.episode_s)
        except PolicyError as error:
            episode.fail(cleanse(f"policy ({self.policy_spec}): {error}"))
        except asyncio.TimeoutError:
            episode.fail(f"the episode took more than {self.episode_s:g} seconds")
        return await self._trajectory(task, episode, record, sample, order)

    async def give_up(self, task: Task, sample: int, reason: str) -> Trajectory:
        """Return a failed trajectory for a question that cannot be played.

        Args:
            task: The question.
            sample: Index of this play.
            reason: The reason, kept in the trajectory's `error`.
        """
        shuffle = self.config.shuffle_options
        opened = open_episode(task, self.dataset, self.game, self.seed, shuffle=shuffle)
        opened.episode.fail(cleanse(reason))
        record = _Record(derive_seed(self.seed, task.qid, sample))
        return await self._trajectory(opened.task, opened.episode, record, sample, opened.order)

    async def play_all(self, jobs: Iterable[tuple[Task, int]]) -> AsyncGenerator[Trajectory, None]:
        """Play many episodes, given as (task, sample), and yield them as they finish.

        At most `concurrency` finished episodes are buffered, so a slow consumer slows down the
        play.
        """
        todo = iter(jobs)
        room = asyncio.Semaphore(2 * self.concurrency)
        done: asyncio.Queue[Trajectory | asyncio.Task[None]] = asyncio.Queue()

        async def work() -> None:
            for task, sample in todo:
                await room.acquire()
                done.put_nowait(await self.play(task, sample))
                # Give finished episodes out at once, even if no coroutine ever suspends.
                await asyncio.sleep(0)

        workers = [asyncio.ensure_future(work()) for _ in range(self.concurrency)]
        for worker in workers:
            worker.add_done_callback(done.put_nowait)  # for any ending
        try:
            left = len(workers)
            while left:
                item = await done.get()
                if isinstance(item, Trajectory):
                    yield item
                    room.release()
                    continue
                left -= 1
                if item.cancelled():
                    raise PolicyError(f"policy ({self.policy_spec}): it raised CancelledError.")
                item.result()
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
        tools = self.game.schemas(len(episode.question.options))
        opening = codec.open(episode.messages, tools) if tools else codec.open(episode.messages)
        record.segments += opening
        while episode.status is None:
            turn = episode.turn
            if self.is_over and self.is_over(episode.first, episode.turns, record.segments):
                episode.stop_for_budget()
                return
            reply = await self._act(episode, record)
            if reply.finish == "context" and not reply.text:
                episode.stop_for_context()
                return
            record.segments.append(_sampled(reply, turn))
            said = len(episode.messages) + 1
            step = episode.reply(reply.written, reply.finish, reply.usage)
            over = isinstance(step, Ended)
            goes_on = self.game.protocol.continues and not over
            if not goes_on and not (over and reply.finish == "length"):
                # If the last reply was cut off, its turn stays open in the segments: it is really
                # truncated.
                record.segments += codec.close(reply, turn)
            if not isinstance(step, Observation | Ended):
                step = episode.receive(await self._call(step, record))
            if isinstance(step, Observation):
                heard = episode.messages[said:]
                if heard[0]["role"] == "tool":
                    record.segments += codec.answer(heard, turn)
                else:
                    seen = (step.frames,) if step.frames else ()
                    record.segments += codec.observe(step.text, turn, *seen)

    async def _act(self, episode: Episode, record: _Record) -> Reply:
        context = Context(
            question=episode.question,
            game=self.game,
            messages=episode.messages,
            observations=episode.observations,
            segments=record.segments,
            turn=episode.turn,
            seed=derive_seed(record.seed, "policy", episode.turn),
        )
        start = time.perf_counter()
        try:
            reply = await self.policy.act(context)
        except PolicyError:
            raise
        except Exception as error:  # the boundary: a policy's exception fails its episode
            raise PolicyError(f"{type(error).__name__}: {error}") from error
        finally:
            record.model_s += time.perf_counter() - start
        if not isinstance(reply, Reply):
            raise PolicyError(f"expected a Reply from `act`, got {reply!r:.80}.")
        try:
            text = plain_text(reply.text)
        except ActionError as error:
            raise PolicyError(str(error)) from error
        return reply if text is reply.text else replace(reply, text=text)

    async def _call(self, request: ToolCall, record: _Record) -> ToolResult:
        result = await self.toolbox.call(request)
        record.tools_s += result.latency_s
        return result

    async def _trajectory(
        self,
        task: Task,
        episode: Episode,
        record: _Record,
        sample: int,
        order: tuple[int, ...] | None,
    ) -> Trajectory:
        play = play_of(episode)
        if self.judge is not None:
            play = await self.judge.see(play, task.question, task.gold)
        result = await score_async(play, task.gold, self.game.reward)
        return Trajectory(
            qid=task.qid,
            video_id=task.question.video_id,
            policy=self.policy_spec,
            sample=sample,
            seed=record.seed,
            status=play.status,
            n_options=len(task.question.options),
            turns=tuple(episode.turns),
            segments=tuple(record.segments),
            protocol=self.game.protocol.name,
            question=task.question.text,
            options=task.question.options,
            show=task.question.show,
            opened_at=episode.opened_at,
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
            reward_error=result.error,
            ask=task.question.ask,
            answer_scores=result.answer,
            judged=play.judged,
            frames=frames_shown(episode.observations),
            seen_s=round(seconds_of(episode.seen), 3),
            timings=record.timings(),
        )


class Opened(NamedTuple):
    """An episode to play.

    Attributes:
        episode: The episode.
        task: The question as shown, with its gold.
        order: Original index of each shown option, if options are shuffled.
    """

    episode: Episode
    task: Task
    order: tuple[int, ...] | None


def open_episode(
    task: Task, dataset: Dataset, game: Game, seed: int = 0, *, shuffle: bool = False
) -> Opened:
    """Make the episode of a question.

    The order of options and the random draws of tools depend only on the seed and the question's
    id, so all samples of a question share them.

    Args:
        task: The question with its gold.
        dataset: The dataset with its video.
        game: The game.
        seed: The run's seed.
        shuffle: Whether the options are shuffled.
    """
    order = None
    if shuffle:
        pinned = pinned_options(task.question.options)
        order = draw_option_order(len(task.question.options), seed, task.qid, pinned=pinned)
        task = task.reorder(order)
    video = dataset.video(task.question)
    return Opened(Episode(task.question, video, game, derive_seed(seed, task.qid)), task, order)


def frames_shown(observations: Iterable[Observation]) -> dict[str, int]:
    """Counts of the frames shown to a master that sees. Empty for others."""
    sights = [one.sight for one in observations if one.sight is not None]
    if not sights:
        return {}
    return {
        "shown": sum(len(sight.frames) for sight in sights),
        "unreadable": sum(sight.unreadable for sight in sights),
        "views_without": sum(not sight.frames for sight in sights),
    }


def play_of(episode: Episode) -> Play:
    """The facts of an ended episode for reward and metrics."""
    assert episode.status is not None, "the episode goes on"
    return Play(
        episode.status,
        episode.choice,
        episode.parsed,
        episode.turns,
        episode.visited,
        episode.opened_at,
        episode.replies,
        episode.words,
        ask=episode.question.ask,
    )


def _sampled(reply: Reply, turn: int) -> Segment:
    return Segment(
        "assistant",
        reply.text,
        sampled=True,
        turn=turn,
        token_ids=reply.token_ids,
        logprobs=reply.logprobs,
        prefix=reply.prefix,
        message=reply.message,
    )
