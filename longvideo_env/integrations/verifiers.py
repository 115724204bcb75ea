"""A taskset of verifiers (0.4): the game played inside `vf-eval` and prime-rl, without a server.

    vf-eval longtvqa --env.taskset.dataset mini --env.taskset.split test -n 20 --no-push

Each question is a task. The rules are its system prompt, and the environment plays the user: each
reply of the model is a turn, and the observation is the next message. The reward is the game's. The
metrics are its terms, `correct`, `grounded`, `turns` and `malformed`. If a tool fails, the episode
raises, so verifiers counts it as an error and never as a wrong answer.

verifiers finds a taskset by the name of a top-level module, here `longtvqa`. Its packages conflict
with the trainer's pins. requirements-doors.txt has versions that work together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import verifiers.v1 as vf
from pydantic import Field

from longvideo_env.drivers.env import LongTVQAEnv, StepReturn
from longvideo_env.errors import ToolError
from longvideo_env.schema import Qid

__all__ = ["LongTVQAPlay", "LongTVQATaskset"]


class LongTVQATasksetConfig(vf.TasksetConfig):
    """The questions and the rules."""

    dataset: str = "mini"
    """See `EnvConfig.dataset`."""
    split: str = "test"
    """See `EnvConfig.split`."""
    seed: int = Field(0, ge=0)
    """Seed of the tools' random draws and of shuffled options, together with the question."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Other fields of `EnvConfig`, such as `max_turns`, `reward` or `vision`."""


class LongTVQAData(vf.TaskData):
    """What is needed to open one question. No gold."""

    qid: Qid
    seed: int
    environment: str
    """The environment's options as JSON."""


class LongTVQATask(vf.Task[LongTVQAData]):
    """A question, identified by its id."""

    @property
    def key(self) -> str:
        """Its id within the taskset."""
        return f"{self.data.qid}"


class LongTVQATaskset(vf.Taskset[LongTVQATask, LongTVQATasksetConfig]):
    """The questions of a split, in the order of its file."""

    def load(self) -> Iterator[LongTVQATask]:
        """Yield a task for each question."""
        config = self.config
        options = {"dataset": config.dataset, "split": config.split, **config.options}
        environment = json.dumps(options, sort_keys=True)
        env = _environment(environment)
        for task in env.dataset.tasks:
            rules = env.game.rules_text(len(task.question.options))
            yield LongTVQATask(
                LongTVQAData(
                    id=str(task.qid),
                    name=f"{task.question.video_id}#{task.qid}",
                    system_prompt=str.__str__(rules) if env.game.instructions else None,
                    qid=task.qid,
                    seed=config.seed,
                    environment=environment,
                ),
                config.task,
            )


class LongTVQAPlayConfig(vf.EnvConfig):
    """The player: by default a plain chat with the model, in a local process."""

    player: vf.AgentConfig = vf.AgentConfig(
        harness={"id": "null"}, runtime=vf.SubprocessConfig(), network_notice=False
    )


class LongTVQAPlay(vf.Env[LongTVQAPlayConfig]):
    """One question is one episode. The environment plays the user."""

    async def run(self, task: LongTVQATask, agents: Any) -> None:
        """Play an episode and record its reward and metrics.

        Raises:
            ToolError: A tool failed, so there is no reward.
        """
        data = task.data
        env = _environment(data.environment).twin()
        await env.reset_async(seed=data.seed, options={"qid": data.qid})
        shown = env.observation.text
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn(shown)
            ended: StepReturn | None = None
            while not segment.terminated:
                taken = await env.step_async(segment.last_reply)
                if taken[2] or taken[3]:
                    ended = taken
                    break
                segment = await interaction.turn(taken[0])
        trace = interaction.trace
        if ended is None:
            if trace.has_error:
                return
            ended = env.stop()  # by a limit of the agent, such as tokens
        _, reward, _, _, info = ended
        if not info["reward_valid"]:
            raise ToolError(f"question {data.qid}: no reward: {info['error']}")
        trace.record_reward("longtvqa", reward)
        trace.record_metrics(_metrics(env, info))


def _metrics(env: LongTVQAEnv, info: dict[str, Any]) -> dict[str, float]:
    """Facts of an episode by name. Unknown ones are left out."""
    found = {f"term_{name}": value for name, value in info["reward_terms"].items()}
    found |= {"correct": info["is_success"], "grounded": info["grounded"]}
    turns = env.turns
    found |= {"turns": len(turns), "malformed": sum(turn.malformed is not None for turn in turns)}
    return {name: float(value) for name, value in found.items() if value is not None}


@lru_cache(maxsize=8)
def _environment(options: str) -> LongTVQAEnv:
    env = LongTVQAEnv(**json.loads(options))
    env.config.text_only("a player of verifiers")
    return env
