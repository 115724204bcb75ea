"""Vision masters behind an endpoint: their requests, and the keys of recordings."""

import base64
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("aiohttp")
pytest.importorskip("PIL")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from fake_server import completion, running
from seen_world import make_seen_world

import longvideo_env as lv
from longvideo_env.media.frames import list_frames


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_seen_world(tmp_path_factory.mktemp("seen") / "world")


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Any]:
    """Play a question. Each call has its own folder."""
    numbers = itertools.count()

    def evaluate(server: Any, world: Path, **options: Any) -> Any:
        given = {"split": "test", "limit": 1, "frames": 2, "progress": False}
        given |= {"out": tmp_path / f"runs-{next(numbers)}", **options}
        return lv.evaluate(f"openai:m@{server.url}", dataset=str(world), **given)

    return evaluate


def by_tags(body: dict[str, Any], n: int) -> Any:
    said = sum(message["role"] == "assistant" for message in body["messages"])
    return completion("<answer>a1" if said else "<request_grounding>more")


@pytest.mark.slow
def test_frames_are_sent_as_they_lie_on_disk(world: Path, play: Callable[..., Any]) -> None:
    with running(by_tags) as server:
        (episode,) = play(server, world).episodes
    assert episode.status == "answered"
    first, second = (body["messages"] for body in server.bodies)
    (said, *images) = first[1]["content"]
    assert said["type"] == "text"
    assert "2 of the 6 frames" in said["text"]
    assert [part["type"] for part in images] == ["image_url"] * 2
    video = lv.load_dataset(str(world), "test").videos[episode.video_id]
    frame = list_frames(video, episode.visited[0])[0]
    sent = images[0]["image_url"]["url"].partition("base64,")[2]
    assert base64.b64decode(sent) == frame.path.read_bytes()
    assert second[:2] == first  # what was sent is sent again
    assert isinstance(second[2]["content"], str)  # the assistant's turn
    assert len(second[3]["content"]) == 3
    assert not any("frames" in message for message in second)


def test_larger_frames_are_made_smaller(world: Path, play: Callable[..., Any]) -> None:
    import io

    from PIL import Image

    with running(by_tags) as server:
        play(server, world, resolution=50)
    url = server.bodies[0]["messages"][1]["content"][1]["image_url"]["url"]
    image = Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2])))
    assert max(image.size) == 50


def test_frames_of_a_tool_come_in_a_message_of_the_user(
    world: Path, play: Callable[..., Any]
) -> None:
    def by_calls(body: dict[str, Any], n: int) -> Any:
        name, arguments = ("answer", '{"answer": "a0"}') if n else ("ground", "{}")
        call = {"id": f"c{n}", "type": "function", "function": {"name": name}}
        call["function"]["arguments"] = arguments  # type: ignore[index]
        return completion_of(call)

    def completion_of(call: dict[str, Any]) -> Any:
        from aiohttp import web

        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
        usage = {"prompt_tokens": 10, "completion_tokens": 2}
        return web.json_response({"choices": [choice], "usage": usage})

    with running(by_calls) as server:
        (episode,) = play(server, world, protocol="functions").episodes
    assert episode.status == "answered"
    tool, user = server.bodies[1]["messages"][-2:]
    assert (tool["role"], user["role"]) == ("tool", "user")
    assert isinstance(tool["content"], str)
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "image_url"]


def test_a_recording_goes_by_the_frames(
    world: Path, play: Callable[..., Any], tmp_path: Path
) -> None:
    kept = {"recording_file": str(tmp_path / "calls.sqlite")}
    with running(by_tags) as server:
        before = play(server, world, recording="record", **kept)
        asked = len(server.bodies)
        again = play(server, world, recording="replay", **kept)
        assert len(server.bodies) == asked
        assert [e.to_json(timings=False) for e in again.episodes] == [
            e.to_json(timings=False) for e in before.episodes
        ]
        smaller = play(server, world, recording="replay", resolution=60, **kept)
        assert smaller.episodes[0].status == "failed"
        assert "reuse, which makes missing calls" in str(smaller.episodes[0].error)


def test_a_changed_frame_is_another_run(
    world: Path, play: Callable[..., Any], tmp_path: Path
) -> None:
    import shutil

    copy = shutil.copytree(world, tmp_path / "world")
    with running(by_tags) as server:
        (episode,) = play(server, copy, out=tmp_path / "run").episodes
        next(copy.rglob(f"{episode.visited[0]}/00001.*")).write_bytes(
            b"\xff\xd8\xff changed \xff\xd9"
        )
        with pytest.raises(lv.LongVideoEnvError, match="the frames' files"):
            play(server, copy, out=tmp_path / "run", limit=2)
        with pytest.raises(lv.LongVideoEnvError, match="frames"):
            play(server, copy, out=tmp_path / "run", frames=3)
