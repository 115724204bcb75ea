"""Any function from messages to text is a policy."""

import asyncio
import time

import pytest

from agents.policies.build import build_policy, check_policy_spec
from agents.policies.function import FunctionPolicy
from longvideo_env import EnvConfig, RolloutEngine, load_dataset
from longvideo_env.errors import SpecError
from longvideo_env.tools.registry import build_toolbox


def engine(policy, concurrency=64, **options):
    config = EnvConfig(dataset="embedded", **options)
    dataset = load_dataset(config.dataset, config.split)
    return RolloutEngine(
        dataset=dataset,
        config=config,
        toolbox=build_toolbox(config, dataset),
        policy=build_policy(policy),
        policy_spec="function",
        concurrency=concurrency,
    )


def play(policy, n=None, **options):
    rollouts = engine(policy, **options)
    tasks = rollouts.dataset.tasks[:n]

    async def all_of_them():
        try:
            return [t async for t in rollouts.play_all((task, 0) for task in tasks)]
        finally:
            await rollouts.policy.aclose()

    return asyncio.run(all_of_them())


def looks_first(messages):
    """Looks, and then answers."""
    looked = any(message["role"] == "assistant" for message in messages)
    return "<answer>a0</answer>" if looked else "<search>who is there</search>"


async def looks_first_async(messages):
    await asyncio.sleep(0)
    return looks_first(messages)


class Counting:
    """A callable object that keeps its input."""

    def __init__(self):
        self.seen = []

    def __call__(self, messages):
        self.seen.append([dict(message) for message in messages])
        messages.append({"role": "user", "content": "mine"})  # its own copy: nobody else sees it
        messages[0]["content"] = "mine"
        return looks_first(messages)


class AsyncCounting(Counting):
    async def __call__(self, messages):
        await asyncio.sleep(0)
        return super().__call__(messages)


@pytest.mark.parametrize("policy", [looks_first, looks_first_async, Counting(), AsyncCounting()])
def test_sync_async_or_an_object_it_plays(policy):
    check_policy_spec(policy)
    assert isinstance(build_policy(policy), FunctionPolicy)
    for trajectory in play(policy):
        assert [turn.action for turn in trajectory.turns] == ["look", "answer"]
        assert trajectory.status == "answered"
        assert trajectory.reward is not None
        assert all("mine" not in segment.text for segment in trajectory.segments)


def test_it_is_shown_the_conversation_as_messages():
    policy = Counting()
    play(policy, n=1)
    first, second = policy.seen
    assert [message["role"] for message in first] == ["system", "user"]
    assert second[:2] == first
    assert [message["role"] for message in second[2:]] == ["assistant", "user"]
    assert second[2]["content"] == "<search>who is there</search>"
    assert "<information>" in second[3]["content"]
    assert all(set(message) == {"role", "content"} for message in second)


def test_one_that_blocks_does_not_hold_others_up():
    def slow(messages):
        time.sleep(0.2)
        return "<answer>a0</answer>"

    n = 8
    start = time.perf_counter()
    played = play(slow, n=n)
    assert time.perf_counter() - start < n * 0.2
    assert {t.status for t in played} == {"answered"}


def test_the_event_loop_goes_on_while_one_blocks():
    rollouts = engine(lambda messages: time.sleep(0.2) or "<answer>a0</answer>")
    ticks = []

    async def both():
        async def tick():
            while True:
                ticks.append(time.perf_counter())
                await asyncio.sleep(0.005)

        ticking = asyncio.ensure_future(tick())
        await rollouts.play(rollouts.dataset.tasks[0])
        ticking.cancel()
        await rollouts.policy.aclose()

    asyncio.run(both())
    assert len(ticks) > 10


@pytest.mark.parametrize("given", [None, 3, b"<answer>a0</answer>", ["<answer>a0</answer>"]])
def test_what_is_no_text_fails_its_episode(given):
    async def later(messages):
        return given

    for policy in (lambda messages: given, later):
        for trajectory in play(policy, n=2):
            assert (trajectory.status, trajectory.reward) == ("failed", None)
            assert "expected text from the function" in trajectory.error


def test_one_that_raises_fails_its_own_episode_only():
    def fails(messages):
        if "Ross" in messages[-1]["content"] or len(messages[-1]["content"]) % 2:
            raise KeyError("x")
        return "<answer>a0</answer>"

    played = play(fails)
    failed = [t for t in played if t.status == "failed"]
    assert 0 < len(failed) < len(played)
    for trajectory in failed:
        assert trajectory.reward is None
        assert trajectory.correct is None
        assert "KeyError: 'x'" in trajectory.error
    assert all(t.reward is not None for t in played if t.status != "failed")


def test_an_empty_text_is_a_malformed_turn_and_no_failure():
    for trajectory in play(lambda messages: "", n=2):
        assert trajectory.status == "out_of_turns"
        assert {turn.malformed for turn in trajectory.turns} == {"no_action"}
        assert trajectory.correct is False


def test_it_may_be_named(tmp_path, monkeypatch):
    (tmp_path / "my_policy_parts.py").write_text(
        "def guess(messages):\n    return '<answer>a1</answer>'\n\nnothing = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for spec in ("my_policy_parts:guess", f"{tmp_path}/my_policy_parts.py:guess"):
        check_policy_spec(spec)
        assert {t.turns[0].argument for t in play(spec, n=2)} == {"a1"}
    for spec, problem in (
        ("my_policy_parts:guss", "unknown attribute 'guss'. Did you mean 'guess'"),
        ("my_policy_parts:nothing", "is not a function"),
        ("my_policy_part:guess", "no module"),
    ):
        with pytest.raises(SpecError, match=problem):
            check_policy_spec(spec)
