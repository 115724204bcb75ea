import json
from pathlib import Path
from typing import Any

import pytest

from agents.generation.settings import GenerationSettings
from agents.policies.build import build_policy
from agents.policies.remembering import MOST, RememberingPolicy
from longvideo_env import EnvConfig, RolloutEngine, load_dataset
from longvideo_env.records.trajectory import Trajectory
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox

HEAD = "Earlier questions about this video, and what you answered:\n- "


def play(policy: RememberingPolicy, protocol: str = "tags") -> Trajectory:
    config = EnvConfig(dataset="embedded", split="val", protocol=protocol, max_turns=2)
    dataset = load_dataset("embedded", "val")
    toolbox = build_toolbox(config, dataset)
    engine = RolloutEngine(dataset=dataset, config=config, toolbox=toolbox, policy=policy,
                           policy_spec="x")  # fmt: skip
    return run_blocking(engine.play(dataset.tasks[0]))


def prompt(played: Trajectory) -> str:
    return "".join(segment.text for segment in played.segments if segment.turn == 0)


def n_tokens(played: Trajectory) -> int:
    return sum(len(segment.token_ids or ()) for segment in played.segments if segment.turn == 0)


@pytest.mark.parametrize("protocol", ["tags", "functions"])
def test_earlier_questions_stand_before_the_opening(protocol: str) -> None:
    heard: list[Any] = []

    def see(messages: list[dict[str, Any]]) -> str:
        heard.append([message["content"] for message in messages])
        return json.dumps({"name": "look", "arguments": {"query": "x"}})

    policy = RememberingPolicy(build_policy(see, GenerationSettings()))
    plain = prompt(play(policy, protocol))
    (before, *_) = heard
    for i in range(MOST + 1):
        policy.remember(f"Who is {i}?", f"It is {i}.")
    heard.clear()
    told = prompt(play(policy, protocol))
    first = heard[0][-1]
    assert first.startswith(f"{HEAD}Who is 1?\n  It is 1.\n- Who is 2?")
    assert first.endswith(f"  It is {MOST}.\n\n{before[-1]}")
    assert [said[:2] for said in heard] == [[before[0], first]] * 2, "in each turn"
    assert told == plain.replace(before[-1], first)


def test_a_model_with_tokens_reads_them_too(tiny_path: Path) -> None:
    policy = RememberingPolicy(
        build_policy(f"hf:{tiny_path}", GenerationSettings(max_turn_tokens=4))
    )
    plain = play(policy)
    policy.remember("Who is it?", "Nobody.")
    told = play(policy)
    assert f"{HEAD}Who is it?\n  Nobody.\n" in prompt(told)
    assert n_tokens(told) > n_tokens(plain) > 0
    run_blocking(policy.aclose())
