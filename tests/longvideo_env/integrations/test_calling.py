"""An episode played by calls equals the episode of `gym.make`."""

import asyncio
import json
import pickle
from functools import lru_cache
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import longvideo_env  # noqa: F401 - registers LongTVQA-v0
from longvideo_env.config import EnvConfig
from longvideo_env.errors import SpecError
from longvideo_env.game.protocol.base import Action, Malformed
from longvideo_env.integrations.calling import CallStage
from longvideo_env.integrations.trl import LongTVQA
from longvideo_env.testing import SENTINEL, SENTINEL_NUMBER, sentinel_gold
from longvideo_env.tools.tool import ToolCall

STAGE = CallStage(EnvConfig(dataset="embedded", split="train", shuffle_options=True))
QUERIES = st.sampled_from(["a red box", "żółw 🐢", " who is there "])
CALLS = st.one_of(
    st.tuples(st.just("look"), st.fixed_dictionaries({"query": QUERIES})),
    st.tuples(st.just("look"), st.just({})),
    st.tuples(st.just("ground"), st.fixed_dictionaries({}, optional={"query": QUERIES})),
    st.tuples(st.just("answer"), st.sampled_from([{"answer": a} for a in ("a0", "a3", "a9")])),
)
EPISODES = st.lists(CALLS, max_size=6).map(lambda calls: [*calls, ("answer", {"answer": "a1"})])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def boom(request: ToolCall) -> str:
    """Breaks down."""
    raise RuntimeError("boom")


@pytest.fixture(scope="module")
def env() -> Any:
    return gym.make(
        "LongTVQA-v0", dataset="embedded", split="train", shuffle_options=True
    ).unwrapped


def in_gym(env: Any, qid: Any, seed: int, calls: list[Any]) -> tuple[float, list[str]]:
    env.reset(seed=seed, options={"qid": qid})
    texts = []
    for name, values in calls:
        written = env.game.protocol.write(Action(name, next(iter(values.values()), None)))
        text = "<search></search>" if (name, values) == ("look", {}) else written
        _, reward, terminated, truncated, info = env.step(text)
        texts.append(info["action"] or info["malformed"])
        if terminated or truncated:
            return reward, [*texts, *info["visited"]]
    raise AssertionError("the last call answers")


def by_calls(play: Any, calls: list[Any]) -> list[str]:
    for name, values in calls:
        play.call(name, values)
    return list(play.episode.visited)


@settings(max_examples=40)
@given(EPISODES, st.integers(0, 2**31), st.integers(0, 20))
def test_the_reward_is_that_of_gym(env: Any, calls: list[Any], seed: int, which: int) -> None:
    qid = STAGE.dataset.qids[which % len(STAGE.dataset)]
    reward, seen = in_gym(env, qid, seed, calls)
    play = STAGE.open(qid, seed)
    play.start()
    visited = by_calls(play, calls)
    assert play.score().reward == reward
    assert seen[-len(visited) :] == visited


@settings(max_examples=40)
@given(EPISODES, st.integers(0, 50), st.integers(0, 20))
def test_the_reward_on_an_event_loop_is_the_same(calls: list[Any], seed: int, which: int) -> None:
    async def play_async() -> float | None:
        play = STAGE.open(qid, seed)
        await play.start_async()
        for name, values in calls:
            await play.call_async(name, values)
        return (await play.score_async()).reward

    qid = STAGE.dataset.qids[which % len(STAGE.dataset)]
    play = STAGE.open(qid, seed)
    play.start()
    by_calls(play, calls)
    assert asyncio.run(play_async()) == play.score().reward


@settings(max_examples=40)
@given(st.text(max_size=12) | st.sampled_from(["look", "ground", "answer"]), JSON)
def test_whatever_is_called_is_an_action_or_malformed(name: str, value: Any) -> None:
    for values in ({}, {"query": value}, {"answer": value}, {"query": "x", "more": value}):
        play = STAGE.open(STAGE.dataset.qids[0])
        play.start()
        assert play.call(name, values)
        assert isinstance(play.episode.parsed[0].outcome, Action | Malformed)


def test_no_word_of_a_call_game_names_a_tag() -> None:
    play = STAGE.open(STAGE.dataset.qids[0])
    said = [STAGE.rules(5) or "", play.start()]
    said += [play.call(*call) for call in [("ground", {}), ("look", {}), ("nope", {"a": 1})]]
    assert not any("<" in text for text in said)


def test_a_failed_tool_gives_no_reward() -> None:
    stage = CallStage(EnvConfig(dataset="embedded", tools=[boom]))
    play = stage.open(stage.dataset.qids[0])
    play.start()
    assert play.call("boom", {}) == "The episode is over: a tool failed."
    assert play.call("answer", {"answer": "a0"}) == "The episode is over: a tool failed."
    assert play.score().reward is None


def test_gold_is_in_no_word_of_an_episode() -> None:
    stage = CallStage(EnvConfig(dataset="embedded", split="train"))
    for task in stage.dataset.tasks:
        hidden = type(task)(task.question, sentinel_gold(task.gold))
        play = stage.open_task(hidden, 3)
        play.start()
        by_calls(play, [("look", {"query": "x"}), ("ground", {}), ("answer", {"answer": "a0"})])
        shown = json.dumps(play.messages)
        assert SENTINEL not in shown
        assert str(SENTINEL_NUMBER) not in shown


# TRL


@lru_cache
def spec_of(seed: int) -> LongTVQA:
    return LongTVQA(dataset="embedded", split="train", seed=seed, shuffle_options=True)


@settings(max_examples=40)
@given(EPISODES, st.sampled_from([0, 7, 2**31]), st.integers(0, 20))
def test_trl_methods_give_the_reward_of_gym(
    env: Any, calls: list[Any], seed: int, which: int
) -> None:
    spec = spec_of(seed)
    row = spec.train_dataset[which % len(spec.train_dataset)]
    played = spec.environment_factory()
    played.reset(**row)
    for name, values in calls:
        getattr(played, name)(**values)
    assert played.get_reward() == in_gym(env, row["qid"], seed, calls)[0]


def test_trl_finds_exactly_the_tools_with_our_schema() -> None:
    from transformers.utils import get_json_schema

    spec = LongTVQA(dataset="embedded")
    environment = spec.environment_factory()
    public = {name for name in dir(environment) if not name.startswith("_")}
    assert public == {"look", "ground", "answer", "reset", "get_reward"}
    for tool in CallStage(EnvConfig(dataset="embedded")).tools:
        theirs = get_json_schema(getattr(environment, tool.name))["function"]
        assert (theirs["name"], theirs["description"]) == (tool.name, tool.purpose)
        ours, parameters = tool.schema, theirs["parameters"]
        assert parameters.get("required", []) == ours.get("required", [])
        assert list(parameters["properties"]) == list(ours["properties"])
        for name, item in parameters["properties"].items():
            kinds = [ours["properties"][name], *ours["properties"][name].get("anyOf", [])]
            assert item["type"] in [kind.get("type") for kind in kinds]
            assert item.get("nullable", False) == ({"type": "null"} in kinds)
            assert item["description"] == tool.described(name)


def test_trl_rows_hold_nothing_gold() -> None:
    spec = LongTVQA(dataset="embedded", limit=3)
    assert spec.train_dataset.column_names == ["prompt", "qid"]
    assert len(spec.train_dataset) == 3


def test_trl_reward_is_none_after_a_failed_tool_and_the_environment_is_used_again() -> None:
    spec = LongTVQA(dataset="embedded", tools=[boom])
    environment, row = spec.environment_factory(), spec.train_dataset[0]
    environment.reset(**row)
    environment.boom()
    assert environment.get_reward() is None
    environment.reset(**row)
    environment.answer(answer="a0")
    assert environment.get_reward() is not None


def test_trl_a_reply_without_a_call_is_a_malformed_turn() -> None:
    spec = LongTVQA(dataset="embedded")
    environment = spec.environment_factory()
    environment.reset(**spec.train_dataset[0])
    environment.look(query="x")
    assert environment.get_reward() == pytest.approx(0.1 * 0.5)
    assert environment.get_reward() == pytest.approx(0.1 * 0.5)


def test_trl_factory_survives_pickling() -> None:
    spec = LongTVQA(dataset="embedded", seed=4)
    row = spec.train_dataset[0]
    again = pickle.loads(pickle.dumps(spec.environment_factory))()
    assert again.reset(**row) == spec.environment_factory().reset(**row)
    with pytest.raises(SpecError, match="module:attribute"):
        pickle.dumps(LongTVQA(dataset="embedded", tools=[boom]).environment_factory)


def test_trl_names_are_kept() -> None:
    def reset(request: ToolCall) -> str:
        """Takes TRL's name."""
        return "x"

    with pytest.raises(SpecError, match="reserved by TRL"):
        LongTVQA(dataset="embedded", tools=[reset])
    with pytest.raises(SpecError, match="limit"):
        LongTVQA(dataset="embedded", limit=0)
