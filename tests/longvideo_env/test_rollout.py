import asyncio

import pytest

from agents.policies.build import build_policy
from longvideo_env import EnvConfig, RolloutEngine, Trajectory, load_dataset
from longvideo_env.errors import PolicyError, ToolError
from longvideo_env.game.policy import Reply, TextCodec
from longvideo_env.records.trajectory import Segment
from longvideo_env.sync import run_blocking
from longvideo_env.testing import toolbox_of
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import ToolReply


def engine(policy="scripted:ground-look-answer", toolbox=None, seed=0, concurrency=8, **options):
    config = EnvConfig(**{"dataset": "embedded", **options})
    dataset = load_dataset(config.dataset, config.split)
    return RolloutEngine(
        dataset=dataset,
        config=config,
        toolbox=toolbox or build_toolbox(config, dataset),
        policy=build_policy(policy) if isinstance(policy, str) else policy,
        policy_spec=policy if isinstance(policy, str) else "test",
        seed=seed,
        concurrency=concurrency,
    )


async def gather(rollouts, samples=1):
    jobs = [(task, i) for task in rollouts.dataset for i in range(samples)]
    return [trajectory async for trajectory in rollouts.play_all(jobs)]


def play(rollouts, samples=1):
    found = run_blocking(gather(rollouts, samples))
    return sorted(found, key=lambda t: (str(t.qid), t.sample))


def test_every_job_is_played_once():
    rollouts = engine("random")
    found = play(rollouts, samples=3)
    assert len({(t.qid, t.sample) for t in found}) == len(found) == 3 * len(rollouts.dataset)
    assert {t.status for t in found} == {"answered"}


@pytest.mark.parametrize("shuffle", [False, True])
def test_bytes_depend_on_the_seed_and_on_nothing_else(shuffle):
    def lines(**options):
        return [t.to_json(timings=False) for t in play(engine("random", **options), samples=2)]

    options = {"grounding": "random", "shuffle_options": shuffle}
    first = lines(**options)
    assert lines(concurrency=1, **options) == first
    assert lines(concurrency=50, **options) == first
    assert lines(seed=1, **options) != first


def test_samples_of_a_question_share_their_option_order():
    found = play(engine("random", shuffle_options=True), samples=3)
    orders = {}
    for trajectory in found:
        orders.setdefault(trajectory.qid, set()).add(trajectory.option_order)
    assert all(len(order) == 1 for order in orders.values())
    assert len(set.union(*orders.values())) > 5


def test_samples_of_a_question_get_the_same_from_tools_that_draw():
    found = play(engine("random", grounding="random"), samples=4)
    firsts = {}
    for trajectory in found:
        firsts.setdefault(trajectory.qid, set()).add(trajectory.first.result["view"])
    assert all(len(first) == 1 for first in firsts.values())
    assert len({t.seed for t in found}) == len(found)


def test_trajectories_load_back_equal():
    for trajectory in play(engine(window=2)):
        assert Trajectory.from_json(trajectory.to_json()) == trajectory


def test_segments_are_the_conversation():
    trajectory = play(engine())[0]
    assert [s.role for s in trajectory.segments] == ["system", *["user", "assistant"] * 3]
    assert [s.sampled for s in trajectory.segments] == [False, *[False, True] * 3]
    assert [s.turn for s in trajectory.segments] == [0, 0, 1, 1, 2, 2, 3]
    assert [turn.action for turn in trajectory.turns] == ["ground", "look", "answer"]
    assert trajectory.first.request["tool"] == "ground"
    assert trajectory.timings.total_s > 0


def test_concurrency_is_a_bound():
    class Counting:
        codec = TextCodec()
        now = most = 0

        async def act(self, context, /):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return Reply("<answer>a0</answer>")

    policy = Counting()
    play(engine(policy, concurrency=3))
    assert policy.most == 3
    with pytest.raises(ValueError, match="at least 1"):
        engine(concurrency=0)


class SometimesDown:
    immediate = True

    async def look(self, request, /):
        if int(request.question.qid) % 3 == 0:
            raise ToolError("the endpoint is down")
        return ToolReply("a mug")


def test_a_failed_tool_marks_its_own_episode_only():
    specs = {"grounding": "bm25", "vision": "down"}
    healthy = engine().toolbox.agents["grounding"]
    found = play(engine(toolbox=toolbox_of(healthy, SometimesDown(), specs=specs)))
    failed = [t for t in found if t.status == "failed"]
    assert {t.qid for t in failed} == {t.qid for t in found if t.qid % 3 == 0}
    for trajectory in failed:
        assert trajectory.reward is None
        assert trajectory.correct is None
        assert trajectory.error == "look (down): the endpoint is down"
        assert trajectory.segments
    assert all(t.reward is not None for t in found if t.qid % 3)


def test_a_failed_policy_marks_its_episode():
    class Broken:
        codec = TextCodec()

        async def act(self, context, /):
            raise PolicyError("out of memory")

    for trajectory in play(engine(Broken())):
        assert trajectory.status == "failed"
        assert "out of memory" in trajectory.error


class Raising:
    """Raises the given error, at once or after a moment."""

    codec = TextCodec()

    def __init__(self, error, pause_s=None):
        self.error, self.pause_s = error, pause_s

    async def act(self, context, /):
        if self.pause_s is not None:
            await asyncio.sleep(self.pause_s)
        raise self.error


@pytest.mark.parametrize("pause_s", [None, 0, 0.001])
def test_what_a_policy_raises_fails_its_episode_with_its_name(pause_s):
    for trajectory in play(engine(Raising(TypeError("no text"), pause_s))):
        assert trajectory.status == "failed"
        assert trajectory.error == "policy (test): TypeError: no text"


@pytest.mark.parametrize("pause_s", [None, 0, 0.001])
@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_ends_the_run_and_never_hangs(error, pause_s):
    wanted = PolicyError if error is asyncio.CancelledError else error
    rollouts = engine(Raising(error(), pause_s))
    with pytest.raises(wanted):
        asyncio.run(asyncio.wait_for(gather(rollouts), 20))


def test_a_bug_outside_the_policy_is_not_hidden():
    class Broken(TextCodec):
        def observe(self, text, turn):
            raise ZeroDivisionError

    policy = build_policy("scripted:ground-look-answer")
    policy.codec = Broken()
    with pytest.raises(ZeroDivisionError):
        play(engine(policy))


def test_what_is_no_reply_fails_its_episode():
    class Silent:
        codec = TextCodec()

        async def act(self, context, /):
            return None

    for trajectory in play(engine(Silent())):
        assert trajectory.status == "failed"
        assert trajectory.error.endswith("expected a Reply from `act`, got None.")


def test_a_full_context_ends_the_episode():
    class Full:
        codec = TextCodec()

        async def act(self, context, /):
            if context.turn == 2:
                return Reply("", finish="context")
            return Reply("<search>x</search>")

    for trajectory in play(engine(Full())):
        assert trajectory.status == "out_of_context"
        assert trajectory.correct is False
        assert trajectory.n_turns == 1


class Tokens:
    """A codec with one token per character. The end-of-turn token is 0."""

    def open(self, messages):
        text = "".join(m["content"] for m in messages)
        return [Segment("prompt", text, token_ids=tuple(map(ord, text)))]

    def close(self, reply, turn):
        if reply.token_ids and reply.token_ids[-1] == 0:
            return []
        return [Segment("assistant", "", turn=turn, token_ids=(0,))]

    def observe(self, text, turn):
        return [Segment("user", text, turn=turn, token_ids=tuple(map(ord, text)))]


class Typist:
    """Checks that its input has every earlier token, and truncates its last turn."""

    codec = Tokens()

    def __init__(self):
        self.seen = {}

    async def act(self, context, /):
        before = self.seen.get(context.question.qid, [])
        assert context.token_ids[: len(before)] == before
        text = "<search>x</search>" if context.turn < 3 else "<answer>a"
        finish = "stop" if context.turn < 3 else "length"
        self.seen[context.question.qid] = context.token_ids + list(map(ord, text))
        return Reply(text, tuple(map(ord, text)), finish=finish)


def test_tokens_go_in_and_come_out_unchanged():
    for trajectory in play(engine(Typist(), max_turns=3)):
        sampled = [s for s in trajectory.segments if s.sampled]
        assert [s.text for s in sampled] == ["<search>x</search>"] * 2 + ["<answer>a"]
        ends = [s for s in trajectory.segments if s.role == "assistant" and not s.sampled]
        assert [s.turn for s in ends] == [1, 2]  # cut off at the very end: not closed
        assert trajectory.status == "out_of_turns"
        assert trajectory.turns[-1].finish == "length"


def test_who_takes_episodes_slowly_slows_them_down():
    rollouts = engine("random", concurrency=4)
    asked = 0

    def jobs():
        nonlocal asked
        for i in range(200):
            asked += 1
            yield rollouts.dataset[0], i

    async def take():
        taken = 0
        async for _ in rollouts.play_all(jobs()):
            taken += 1
            await asyncio.sleep(0.001)
            assert asked <= taken + 3 * rollouts.concurrency
        return taken

    assert run_blocking(take()) == 200
