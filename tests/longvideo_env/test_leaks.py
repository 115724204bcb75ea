"""Gold is replaced by sentinels. The tests search for them in all input of the agents."""

import dataclasses
import json

import pytest

from agents.policies.build import build_policy
from longvideo_env import EnvConfig, LongTVQAEnv, RolloutEngine, Task, load_dataset
from longvideo_env.sync import run_blocking
from longvideo_env.testing import SENTINEL, SENTINEL_NUMBER, sentinel_gold
from longvideo_env.tools.registry import build_toolbox


def with_sentinels(dataset):
    tasks = tuple(Task(task.question, sentinel_gold(task.gold)) for task in dataset)
    return dataclasses.replace(dataset, tasks=tasks)


def shown(trajectory):
    """All input and output of the policy and the tools. Reward and metrics may use gold."""
    record = json.loads(trajectory.to_json())
    return json.dumps({key: record[key] for key in ("segments", "turns", "first", "visited")})


def leaks(text):
    return SENTINEL in text or str(SENTINEL_NUMBER) in text


async def play_all(rollouts, tasks):
    return [t async for t in rollouts.play_all((task, 0) for task in tasks)]


def play_with_sentinels(dataset, config, policy):
    marked = with_sentinels(dataset)
    rollouts = RolloutEngine(
        dataset=marked,
        config=config,
        toolbox=build_toolbox(config, marked),
        policy=build_policy(policy),
        policy_spec=policy,
    )
    found = run_blocking(play_all(rollouts, marked.tasks))
    assert len(found) == len(dataset)
    return [t.qid for t in found if leaks(shown(t))]


@pytest.mark.slow
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.slow), "val"])
def test_no_gold_in_any_real_question(shared_data, split):
    folder = str(shared_data / "tvqa_plus_dev")
    dataset = load_dataset(folder, split)
    assert len(dataset) == {"train": 1057, "val": 595}[split]
    config = EnvConfig(dataset=folder, split=split, window=2, shuffle_options=False)
    assert play_with_sentinels(dataset, config, "scripted:ground-look-answer") == []
    assert play_with_sentinels(dataset, config, "random") == []


def test_no_gold_in_calls_of_functions(shared_data):
    folder = str(shared_data / "tvqa_plus_dev")
    dataset = dataclasses.replace(found := load_dataset(folder, "val"), tasks=found.tasks[:200])
    config = EnvConfig(dataset=folder, split="val", protocol="functions")
    assert play_with_sentinels(dataset, config, "scripted:ground-look-answer") == []


@pytest.mark.parametrize("split", ["train", "val"])
def test_no_gold_through_the_gymnasium_door(shared_data, split):
    folder = str(shared_data / "tvqa_plus_dev")
    env = LongTVQAEnv(dataset=folder, split=split)
    env.dataset = with_sentinels(env.dataset)
    for task in env.dataset:
        texts = [env.reset(options={"qid": task.qid})]
        texts += [env.step(f"<search>{task.question.text}</search>")[0]]
        texts += [env.step("<request_grounding/>")[::4]]
        texts += [env.step("no action")[::4]]
        assert not leaks(repr(texts)), task.qid


def test_no_gold_of_several_clues(tmp_path):
    pytest.importorskip("pysubs2")
    rows = [
        {
            "qid": i,
            "video_uid": "film",
            "question": "What falls?",
            "choices": ["a cup", "a lamp"],
            "right_answer": "B",
            "clue_intervals": [[10, 20], [100, 130]],
            "duration": 300,
        }
        for i in range(5)
    ]
    (tmp_path / "cgbench.json").write_text(json.dumps(rows), encoding="utf-8")
    spec = f"cgbench:{tmp_path}"
    dataset = load_dataset(spec, "test")
    assert SENTINEL in repr(sentinel_gold(dataset[0].gold).clues)
    config = EnvConfig(dataset=spec, split="test", reward="paper,grounding=1")
    assert play_with_sentinels(dataset, config, "scripted:ground-look-answer") == []


def test_the_search_for_sentinels_would_find_one():
    """A test of the check: it finds an agent that is given gold on purpose."""
    dataset = load_dataset("embedded", "val")
    config = EnvConfig(split="val", grounding="oracle")
    # The oracle names the sentinel. It is not a clip of the video, so every episode fails.
    assert len(play_with_sentinels(dataset, config, "random")) == len(dataset)
