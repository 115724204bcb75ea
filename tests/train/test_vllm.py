"""TRL's GRPO with real vLLM in the same process, on the CPU. `make test-vllm` runs it.

All tests share one training run, because an engine takes a minute to load.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longvideo_env.commands.audit import audit
from longvideo_env.records.trajectory import Trajectory, read_trajectories
from longvideo_env.tools.tool import ToolCall, ToolReply

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parents[2]
STEPS = 3
STARTER = ROOT / "agents" / "starter"


class SleepyGrounding:
    """Replies at once. Only the second call of one question never returns."""

    immediate = False

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self.stuck: set[str] = set()

    async def ground(self, request: ToolCall, /) -> ToolReply:
        if request.visited and not self.stuck:
            self.stuck.add(str(request.question.qid))
            await asyncio.Event().wait()
        reply: ToolReply = await self._agent.ground(request)
        return reply


@dataclass
class Run:
    trainer: Any
    folder: Path
    metrics: list[dict[str, Any]]
    agent: SleepyGrounding

    def rollouts(self, step: int) -> list[Trajectory]:
        return list(read_trajectories(self.folder / f"kept/step-{step + 1:06d}-rank-000.jsonl.zst"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    from train.grpo import prepare
    from train.options.grpo_options import parse

    folder = tmp_path_factory.mktemp("vllm")
    flags = [
        *("--config", str(ROOT / "configs/grpo/mini.yaml"), "--output_dir", str(folder)),
        *("--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_max_model_length", "2048"),
        *("--max_steps", str(STEPS), "--per_device_train_batch_size", "16"),
        *("--learning_rate", "0.003", "--warmup_steps", "0", "--save_strategy", "no"),
        *("--save_rollouts", str(folder / "kept"), "--tool_timeout_s", "2"),
        *("--disable_tqdm", "true"),
    ]
    trainer = prepare(*parse(flags))
    engine = trainer.rollout_func.engine
    agent = SleepyGrounding(engine.toolbox.agents["grounding"])
    agents = {**engine.toolbox.agents, "grounding": agent}
    engine.toolbox = replace(engine.toolbox, agents=agents)
    trainer.train()
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    yield Run(trainer, folder, [json.loads(line) for line in lines][:STEPS], agent)
    trainer.release_engine()


def score(model: Any, trajectory: Trajectory) -> list[tuple[float, float]]:
    """The log-probs of the sampled tokens: from vLLM, and from the model."""
    ids = [i for segment in trajectory.segments for i in segment.token_ids or ()]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    own = logits.log_softmax(-1)[:-1].gather(-1, torch.tensor(ids)[1:, None])[:, 0].tolist()
    pairs, place = [], 0
    for segment in trajectory.segments:
        for offset in range(len(segment.token_ids or ())):
            if segment.sampled and segment.logprobs is not None:
                pairs.append((segment.logprobs[offset], own[place + offset - 1]))
        place += len(segment.token_ids or ())
    return pairs


def test_every_step_logs_rewards_and_where_the_time_went(run: Run) -> None:
    assert [record["step"] for record in run.metrics] == [1, 2, 3]
    for record in run.metrics:
        assert record["rewards/answer/mean"] is not None
        assert record["time/sync_s"] > 0
        assert 0 < record["time/model_s"] <= record["time/rollouts_s"]
        assert record["time/tokens_per_s"] > 0


def test_the_weights_of_every_step_arrive(run: Run) -> None:
    for record in run.metrics:
        assert record["sampling/sampling_logp_difference/max"] < 1e-3


def test_stale_weights_would_be_seen(run: Run) -> None:
    """Score the last step's tokens with the first weights. The log-probs must differ."""
    from transformers import AutoModelForCausalLM

    start = AutoModelForCausalLM.from_pretrained(STARTER)
    pairs = [pair for trajectory in run.rollouts(STEPS - 1) for pair in score(start, trajectory)]
    assert max(abs(theirs - ours) for theirs, ours in pairs) > 0.1


def test_after_the_last_step_the_engine_agrees_with_the_trainer(run: Run) -> None:
    trainer = run.trainer
    trainer.vllm_generation.sync_weights()
    trainer.state.global_step = STEPS
    trainer.rollout_func([trainer.train_dataset[0]["prompt"]] * 8, trainer)
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    pairs = [pair for trajectory in run.rollouts(STEPS) for pair in score(model, trajectory)]
    assert len(pairs) > 20
    assert max(abs(theirs - ours) for theirs, ours in pairs) < 1e-3


def test_a_tool_that_never_answers_costs_its_own_episode_alone(run: Run) -> None:
    played = [trajectory for step in range(STEPS) for trajectory in run.rollouts(step)]
    failed = [trajectory for trajectory in played if trajectory.status == "failed"]
    assert len(run.agent.stuck) == len(failed) == 1
    assert failed[0].error == "ground (bm25): no reply within the limit of 2 s."
    assert len(played) == STEPS * 16


def test_nothing_is_generated_after_an_action_and_the_audit_passes(run: Run) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    findings = audit(run.folder / "kept", lambda ids: str(tokenizer.decode(list(ids))))
    assert findings.problems == []
    assert findings.counts["tokens after an action"] == 0
    assert findings.counts["sampled tokens"] > 100


def test_prefix_caching_is_on(run: Run) -> None:
    config = run.trainer.vllm_generation.llm.llm_engine.vllm_config.cache_config
    assert config.enable_prefix_caching
