import asyncio

import pytest

from longvideo_env import load_dataset
from longvideo_env.config import EnvConfig
from longvideo_env.errors import SpecError, ToolError
from longvideo_env.sync import run_blocking, run_immediate
from longvideo_env.testing import GroundingContract, grounding_call, toolbox_of, vision_call
from longvideo_env.tools.registry import build_toolbox
from longvideo_env.tools.tool import ToolReply
from longvideo_env.tools.with_gold import OracleGrounding


class Says:
    """Replies with a fixed value, or raises it."""

    def __init__(self, value, *, immediate=True):
        self.value = value
        self.immediate = immediate

    async def ground(self, request, /):
        if not self.immediate:
            await asyncio.sleep(0.001)
        if isinstance(self.value, Exception):
            raise self.value
        return ToolReply(self.value)

    look = ground


CLIP = "s01e01_seg01_clip_00"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("../../etc/passwd", "not a clip of video"),
        ("s09e09_seg01_clip_00", "not a clip of video"),
        (None, "not a clip of video"),
        (CLIP, "visited already"),
        (ToolError("the endpoint is down"), "the endpoint is down"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_what_a_grounding_agent_does_wrong_is_a_failed_result(question, film, value, problem):
    request = grounding_call(question, film, None, (CLIP,))
    result = run_immediate(toolbox_of(Says(value)).call(request))
    assert not result.ok
    assert result.reply is None
    assert problem in result.error


@pytest.mark.parametrize("value", ["", "  ", None, 3])
def test_a_vision_agent_must_say_something(question, film, value):
    result = run_immediate(toolbox_of(None, Says(value)).call(vision_call(question, film, "who")))
    assert "not a description" in result.error


def test_missing_agents_fail(question, film):
    for call in (grounding_call(question, film), vision_call(question, film, "who")):
        result = run_immediate(toolbox_of().call(call))
        assert not result.ok
        assert "there is no" in result.error


def test_when_all_is_visited_any_clip_will_do(question, film):
    request = grounding_call(question, film, None, film.clip_ids)
    assert run_immediate(toolbox_of(Says(CLIP)).call(request)).ok


def test_blocking_calls_work_with_and_without_a_running_loop(question, film):
    toolbox = toolbox_of(Says(CLIP, immediate=False))
    request = grounding_call(question, film)
    assert toolbox.call_blocking(request).reply.view == CLIP

    async def notebook():
        return toolbox.call_blocking(request).reply.view

    assert asyncio.run(notebook()) == CLIP


def test_run_blocking_inside_a_loop():
    async def three():
        await asyncio.sleep(0)
        return 3

    async def notebook():
        return run_blocking(three())

    assert run_blocking(three()) == 3
    assert asyncio.run(notebook()) == 3


def test_a_suspending_agent_that_calls_itself_immediate_is_found_out():
    async def waits():
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="immediate = False"):
        run_immediate(waits())


class TestOracle(GroundingContract):
    def make_agent(self):
        gold = {str(t.qid): t.gold.clip_id for t in load_dataset("embedded", "train")}
        return OracleGrounding(gold)

    def test_names_the_gold_clip_first(self):
        dataset = load_dataset("embedded", "train")
        for task in dataset:
            result = self._call(grounding_call(task.question, dataset.video(task)))
            assert result.reply.view == task.gold.clip_id


def test_specs_become_agents():
    dataset = load_dataset("embedded", "val")
    toolbox = build_toolbox(EnvConfig(grounding="none", vision="none"), dataset)
    assert toolbox.agents == {}
    assert isinstance(
        build_toolbox(EnvConfig(grounding="oracle"), dataset).agents["grounding"], OracleGrounding
    )
    with pytest.raises(SpecError, match="bm25, embed, fused, lines, none, openai, oracle"):
        build_toolbox(EnvConfig(grounding="bm52"), dataset)
    with pytest.raises(SpecError, match="captions, none, openai, self, text, vlm"):
        build_toolbox(EnvConfig(vision="eyes"), dataset)
    with pytest.raises(SpecError, match="takes no argument"):
        build_toolbox(EnvConfig(grounding="bm25:3"), dataset)


class NeverAnswers:
    immediate = False

    def __init__(self, stubborn):
        self.stubborn = stubborn
        self.cancelled = False

    async def look(self, request, /):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            if self.stubborn:
                await asyncio.sleep(0.2)
            raise
        raise AssertionError("it was answered")


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_tool_slower_than_the_limit_is_a_failed_result(stubborn):
    task = next(iter(load_dataset("embedded", "train").tasks))
    video = load_dataset("embedded", "train").video(task)
    agent = NeverAnswers(stubborn)
    toolbox = toolbox_of(vision=agent, specs={"vision": "slow"}, timeout_s=0.05)

    async def call():
        result = await toolbox.call(vision_call(task.question, video, "who"))
        await asyncio.sleep(0.01)  # the cancellation arrives
        return result

    result = asyncio.run(call())
    assert result.error == "no reply within the limit of 0.05 s."
    assert result.reply is None
    assert agent.cancelled
