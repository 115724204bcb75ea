import asyncio
import base64
import copy
import dataclasses
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("openai")
pytest.importorskip("aiohttp")

sys.path.insert(0, str(Path(__file__).parent))

from fake_server import completion, error, running

from agents.api.client import ChatReply
from agents.api.usage import Usage
from agents.generation.settings import GenerationSettings
from agents.grounding.api_grounding import ApiGrounding, named_clip
from agents.policies.api_policy import ApiPolicy, closed, cut_behind_action, sent_messages
from agents.policies.build import build_policy
from agents.vision.api_vision import ApiVision
from longvideo_env import load_dataset
from longvideo_env.errors import SpecError
from longvideo_env.game.game import default_game
from longvideo_env.game.policy import Context
from longvideo_env.testing import GroundingContract, grounding_call, toolbox_of, vision_call

PROTOCOL = default_game().protocol
STOPS = ["</search>", "</request_grounding>", "</answer>"]


@pytest.fixture
def dataset():
    return load_dataset("embedded", "val")


@pytest.fixture
def task(dataset):
    return dataset.tasks[0]


def call(toolbox, request):
    return asyncio.run(toolbox.call(request))


def text_of(body):
    return "\n".join(m["content"] for m in body["messages"] if isinstance(m["content"], str))


def ground(server, request, options=""):
    agent = ApiGrounding(f"m@{server.url}{options}")
    return call(toolbox_of(agent, specs={"grounding": "openai:m"}), request)


def test_grounding_reads_every_clip_that_was_not_visited(dataset, task):
    video = dataset.video(task)
    wanted, visited = video.clip_ids[2], video.clip_ids[:1]
    with running(lambda body, n: completion(f"So <clip>{wanted}</clip>")) as server:
        request = grounding_call(task.question, video, "the red mug", visited)
        result = ground(server, request)
    assert result.reply.view == wanted
    assert result.reply.details["prompt_tokens"] == 100
    text = text_of(server.bodies[0])
    assert all(f"<{clip_id}>" in text for clip_id in video.clip_ids[1:])
    assert f"<{visited[0]}>" not in text
    for part in (task.question.text, *task.question.options, "the red mug"):
        assert part in text


def test_a_clip_that_is_none_is_mended_once_and_then_fails(dataset, task):
    video = dataset.video(task)
    replies = ["<clip>s99e99_seg01_clip_00</clip>", f"<clip>{video.clip_ids[0]}</clip>"]
    request = grounding_call(task.question, video)
    with running(lambda body, n: completion(replies[n])) as server:
        result = ground(server, request)
    assert result.reply.view == video.clip_ids[0]
    assert result.reply.details["repaired"] is True
    assert result.reply.details["requests"] == 2
    roles = [message["role"] for message in server.bodies[1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    with running(lambda body, n: completion(replies[0])) as server:
        failed = ground(server, request)
    assert not failed.ok
    assert "named no unvisited clip of video" in failed.error
    assert len(server.bodies) == 2


def test_a_visited_clip_is_no_answer(dataset, task):
    video = dataset.video(task)
    replies = [f"<clip>{video.clip_ids[0]}</clip>", f"<clip>{video.clip_ids[1]}</clip>"]
    request = grounding_call(task.question, video, None, video.clip_ids[:1])
    with running(lambda body, n: completion(replies[n])) as server:
        assert ground(server, request).reply.view == video.clip_ids[1]


def test_a_long_video_is_shortlisted_and_the_result_says_so(dataset, task):
    video = dataset.video(task)
    shown = []

    def answer(body, n):
        clips = [c for c in video.clip_ids if f"<{c}>" in text_of(body)]
        shown.append(clips)
        return completion(f"<clip>{clips[0]}</clip>")

    with running(answer) as server:
        result = ground(server, grounding_call(task.question, video), ",context=60")
    assert 1 <= len(shown[0]) < len(video.clip_ids)
    assert result.reply.details["shortlisted"] == {
        "shown": len(shown[0]),
        "of": len(video.clip_ids),
    }


def test_a_context_that_is_smaller_than_thought_shortens_the_list(dataset, task):
    clip = dataclasses.replace(
        dataset.video(task).clips[0],
        subtitles=tuple(line for line in dataset.video(task).clips[0].subtitles) * 60,
    )
    clips = (clip, *dataset.video(task).clips[1:])
    video = dataclasses.replace(dataset.video(task), clips=clips)

    def answer(body, n):
        if n == 0:
            return error(400, "too long", code="context_length_exceeded")
        found = [c for c in video.clip_ids if f"<{c}>" in text_of(body)]
        return completion(f"<clip>{found[0]}</clip>")

    with running(answer) as server:
        result = ground(server, grounding_call(task.question, video))
    assert result.ok, result.error
    assert "shortlisted" in result.reply.details


class TestGroundingContract(GroundingContract):
    """The contract, with a model that always names the first clip of its input."""

    @pytest.fixture(autouse=True)
    def _server(self):
        def answer(body, n):
            import re

            first = re.search(r"<(s\d\de\d\d_seg\d\d_clip_\d\d)>", text_of(body))
            return completion(f"<clip>{first[1]}</clip>")

        with running(answer) as server:
            self.url = server.url
            yield

    def make_agent(self):
        return ApiGrounding(f"m@{self.url}")


@pytest.mark.parametrize(
    ("text", "clip"),
    [
        ("<clip>s01e01_seg01_clip_00</clip>", "s01e01_seg01_clip_00"),
        ("<clip> seg01_clip_00 </clip>", "s01e01_seg01_clip_00"),
        ("<clip><s01e01_seg02_clip_00></clip>", "s01e01_seg02_clip_00"),
        ("<clip>clip_00</clip>", None),
        ("it is s01e01_seg02_clip_00.", "s01e01_seg02_clip_00"),
        ("s01e01_seg01_clip_00 or s01e01_seg02_clip_00", None),
        ("<think><clip>s01e01_seg01_clip_00</clip></think><clip>seg02_clip_00</clip>",
         "s01e01_seg02_clip_00"),
        ("<clip>../../etc</clip>", None),
        ("", None),
    ],
)  # fmt: skip
def test_which_clip_a_reply_names(text, clip):
    assert named_clip(text, ["s01e01_seg01_clip_00", "s01e01_seg02_clip_00"]) == clip


def looked(server, request, options=""):
    agent = ApiVision(f"m@{server.url}{options}")
    return call(toolbox_of(vision=agent, specs={"vision": "openai:m"}), request)


def images_of(body):
    parts = body["messages"][1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [base64.b64decode(url.partition("base64,")[2]) for url in urls], parts[0]["text"]


def test_vision_sends_the_files_bytes_and_names_how_many(dataset, task):
    video = dataset.video(task)
    window = video.clip_ids[:2]
    with running(lambda body, n: completion("<think>x</think>A mug.")) as server:
        result = looked(server, vision_call(task.question, video, "who?", window))
    images, text = images_of(server.bodies[0])
    assert result.reply.text == "A mug."
    assert result.reply.details["n_frames"] == len(images) == 6
    assert "You see 6 frames" in text
    assert "who?" in text
    frames = result.reply.details["frames"]
    assert {frame["clip_id"] for frame in frames} == set(window)
    sent = [(video.frames_root / frame["path"]).read_bytes() for frame in frames]
    assert sent == images
    assert frames[-1]["time_s"] == 40.0  # the whole of the clip, not its beginning
    for option in task.question.options:
        assert option not in text


def test_fewer_frames_and_a_limit_on_their_size(dataset, task):
    video = dataset.video(task)
    request = vision_call(task.question, video, "who?", video.clip_ids[:1])
    with running(lambda body, n: completion("ok")) as server:
        looked(server, request, ",frames=1,max_side=16")
        looked(server, request, ",frames=1,max_side=10000")
    (small,), text = images_of(server.bodies[0])
    (whole,), _ = images_of(server.bodies[1])
    assert "You see 1 frame," in text
    assert len(small) < len(whole)


def test_without_frames_vision_fails_and_asks_nobody(dataset, task):
    video = dataclasses.replace(dataset.video(task), frames_root=None)
    with running(lambda body, n: completion("ok")) as server:
        result = looked(server, vision_call(task.question, video, "?", video.clip_ids[:1]))
    assert "there are no frames" in result.error
    assert server.bodies == []


def test_boxes_are_sent_only_where_the_request_has_them(dataset, task):
    video = dataset.video(task)
    request = vision_call(task.question, video, "?", video.clip_ids[:1])
    with running(lambda body, n: completion("ok")) as server:
        looked(server, request)
        request.boxes = ("mug-label",)
        looked(server, request)
    assert "mug-label" not in json.dumps(server.bodies[0])
    assert "mug-label" in json.dumps(server.bodies[1])


def test_equal_frames_and_query_make_equal_keys(dataset, task):
    video = dataset.video(task)
    agent = ApiVision("m@http://127.0.0.1:1/v1")

    def request(query="?", seed=1):
        return vision_call(task.question, video, query, video.clip_ids[:1], seed=seed)

    assert agent.record_key(request()) == agent.record_key(request(seed=2))
    assert agent.record_key(request()) != agent.record_key(request("!"))
    warm = ApiVision("m@http://127.0.0.1:1/v1,temperature=0.7")
    assert warm.record_key(request()) == warm.record_key(request(seed=2))
    assert copy.deepcopy(agent).record_key(request()) == agent.record_key(request())


def context_of(dataset, task, messages, turn=1):
    return Context(task.question, default_game(), messages, [], [], turn, seed=3)


def act(server, context, options="", **settings):
    policy = ApiPolicy(f"m@{server.url}{options}", GenerationSettings(**settings))
    return asyncio.run(policy.act(context))


MESSAGES = [
    {"role": "system", "content": "rules"},
    {"role": "user", "content": "Question"},
    {"role": "assistant", "content": "<think>long</think><search>a</search>"},
    {"role": "user", "content": "<information>b</information>"},
]


def test_the_master_sends_its_own_turns_and_stops_at_the_closing_tag(dataset, task):
    with running(lambda body, n: completion("<reasoning>r</reasoning><answer>a1")) as server:
        reply = act(server, context_of(dataset, task, MESSAGES), temperature=0.5)
    body = server.bodies[0]
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"] == "<search>a</search>"
    assert set(body["stop"]) == set(STOPS)
    assert (body["seed"], body["temperature"]) == (3, 0.5)
    assert reply.text == "<reasoning>r</reasoning><answer>a1</answer>"
    assert reply.finish == "stop"
    assert reply.usage["prompt_tokens"] == 100


@pytest.mark.parametrize(
    ("opens", "closes"),
    [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]")],
)
def test_a_stop_inside_the_reasoning_is_asked_again_without_stops(dataset, task, opens, closes):
    whole = f"{opens}maybe <answer>a1</answer> no{closes}<answer>a2</answer> x"

    def answer(body, n):
        """Truncate before the first stop string, as servers do."""
        ends = [whole.find(stop) for stop in body.get("stop", ()) if stop in whole]
        return completion(whole[: min(ends)] if ends else whole)

    with running(answer) as server:
        reply = act(server, context_of(dataset, task, MESSAGES))
    assert "stop" not in server.bodies[1]
    assert reply.text.endswith(f"{closes}<answer>a2</answer>")
    assert reply.usage["requests"] == 2


def test_a_full_context_ends_the_episode_and_a_broken_endpoint_fails_it(dataset, task):
    from longvideo_env.errors import PolicyError

    full = {"code": "context_length_exceeded"}
    with running(lambda body, n: error(400, "too long", **full)) as server:
        reply = act(server, context_of(dataset, task, MESSAGES))
    assert (reply.text, reply.finish) == ("", "context")
    with running(lambda body, n: error(401, "no")) as server, pytest.raises(PolicyError):
        act(server, context_of(dataset, task, MESSAGES))


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("<search>who", "stop", "<search>who</search>"),
        ("<reasoning>a</reasoning><request_grounding>x", "stop",
         "<reasoning>a</reasoning><request_grounding>x</request_grounding>"),
        ("<search>who</search>", "stop", "<search>who</search>"),
        ("<search>who", "length", "<search>who"),
        ("no action", "stop", "no action"),
        ("<reasoning>is it <answer>a1", "stop", None),
    ],
)  # fmt: skip
def test_the_tag_that_a_server_cut_off_is_put_back(text, finish, expected):
    assert closed(ChatReply(text, "", finish, Usage()), STOPS, PROTOCOL) == expected


def test_what_follows_an_action_is_cut():
    assert cut_behind_action("<answer>a1</answer> and so on", PROTOCOL) == "<answer>a1</answer>"
    assert cut_behind_action("<request_grounding/>x", PROTOCOL) == "<request_grounding/>"
    assert cut_behind_action("<search>open", PROTOCOL) == "<search>open"


def test_thinking_may_be_kept():
    sent = sent_messages(MESSAGES, keep_thinking=True)
    assert sent[2]["content"] == MESSAGES[2]["content"]


@pytest.mark.parametrize(
    "spec",
    ["openai:", "openai:m,stop", "openai:m,stop=maybe", "openai:m,nope=1", "openai:m,think=no"],
)
def test_bad_specs_are_refused(spec, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    with pytest.raises(SpecError):
        build_policy(spec)


@pytest.mark.parametrize("options", ["frames=0", "detail=some", "frames=x", "max_side=-1"])
def test_bad_vision_options_are_refused(options):
    with pytest.raises(SpecError):
        ApiVision(f"m@http://127.0.0.1:1/v1,{options}")
