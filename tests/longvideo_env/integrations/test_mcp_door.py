"""The official MCP client uses the tools on videos."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters, stdio_client

from longvideo_env.config import EnvConfig
from longvideo_env.datasets import load_dataset
from longvideo_env.errors import SpecError
from longvideo_env.integrations.mcp import VideoTools, make_server, serve_http
from longvideo_env.testing import SENTINEL, SENTINEL_NUMBER, sentinel_gold
from longvideo_env.tools.tool import ToolCall

CONFIG = EnvConfig(dataset="embedded", split="train")
DATASET = load_dataset("embedded", "train")
VIDEO = next(iter(DATASET.videos.values()))
TOOLS = VideoTools(CONFIG)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
COMMAND = [sys.executable, "-m", "longvideo_env.commands.main", "mcp", "--dataset", "embedded"]


def boom(request: ToolCall) -> str:
    """Breaks down."""
    raise RuntimeError("boom")


async def asked(client: Any, name: str, **values: Any) -> tuple[str, bool]:
    result = await client.call_tool(name, values)
    return result.content[0].text, not result.is_error


async def tour(client: Any) -> None:
    """The calls of a typical assistant."""
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(listed) == {"list_videos", "subtitles", "ground", "look"}
    assert listed["look"].input_schema["required"] == ["video_id", "query"]
    videos = json.loads((await asked(client, "list_videos"))[0])
    assert videos["n_videos"] == len(DATASET.videos)
    first = videos["videos"][0]
    assert first == {"video_id": VIDEO.video_id, "clips": list(VIDEO.clip_ids)}
    text, well = await asked(client, "ground", video_id=VIDEO.video_id, query="mug")
    clip_id = text.splitlines()[0].strip("[]")
    assert well
    assert clip_id in VIDEO
    other, _ = await asked(client, "ground", video_id=VIDEO.video_id, query="mug", seen=[clip_id])
    assert other.splitlines()[0] != text.splitlines()[0]
    text, well = await asked(
        client, "look", video_id=VIDEO.video_id, clip_id=clip_id, query="what is there"
    )
    assert well, text
    text, _ = await asked(client, "subtitles", video_id=VIDEO.video_id, clip_id=clip_id)
    assert all(line.text in text for line in VIDEO[clip_id].subtitles)
    text, well = await asked(client, "look", video_id="nope", query="x")
    assert not well
    assert "list_videos" in text


def test_played_in_memory() -> None:
    async def run() -> None:
        async with Client(make_server(TOOLS)) as client:
            await tour(client)

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_played_over_standard_input_and_output() -> None:
    async def run() -> None:
        server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])
        async with Client(stdio_client(server)) as client:
            await tour(client)

    asyncio.run(run())


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[str]:
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(serve_http(TOOLS, port=0, ready=url.set_result, **options))
    try:
        yield await asyncio.wait_for(url, 20)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.filterwarnings("ignore")
def test_played_over_http_with_a_token() -> None:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async def run() -> None:
        async with serving(token="secret") as url:
            for token in (None, "wrong"):
                headers = {} if token is None else {"Authorization": f"Bearer {token}"}
                async with httpx2.AsyncClient(headers=headers) as http:
                    assert (await http.post(url, json={})).status_code == 401
            async with httpx2.AsyncClient(headers={"Authorization": "Bearer secret"}) as http:
                async with Client(streamable_http_client(url, http_client=http)) as client:
                    await tour(client)
                for body in (b"{", b"[]", b"null", b'{"jsonrpc": "2.0"}', b"x" * (1 << 19)):
                    answer = await http.post(
                        url, content=body, headers={"content-type": "application/json"}
                    )
                    assert 400 <= answer.status_code < 500
                async with Client(streamable_http_client(url, http_client=http)) as client:
                    assert (await asked(client, "list_videos"))[1]

    asyncio.run(run())


def test_a_host_beyond_this_machine_needs_a_token() -> None:
    with pytest.raises(SpecError, match="LONGVIDEO_MCP_TOKEN"):
        asyncio.run(serve_http(TOOLS, host="0.0.0.0"))
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SpecError, match="cannot listen"),
    ):
        asyncio.run(serve_http(TOOLS, port=taken.getsockname()[1]))
    environment = {k: v for k, v in os.environ.items() if k != "LONGVIDEO_MCP_TOKEN"}
    done = subprocess.run(
        [*COMMAND, "--http", "--host", "0.0.0.0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_nothing_gold_is_on_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = load_dataset("embedded", "train")
    tasks = [type(t)(t.question, sentinel_gold(t.gold)) for t in hidden.tasks]
    monkeypatch.setattr(
        "longvideo_env.integrations.mcp.load_dataset", lambda *a, **k: replace(hidden, tasks=tasks)
    )
    tools = VideoTools(CONFIG)
    said = [json.dumps(tools.schemas())]

    async def run() -> None:
        said.append((await tools.call("list_videos", {}))[0])
        for video in hidden.videos.values():
            for name, more in (("ground", {}), ("look", {"query": "x"}), ("subtitles", {})):
                said.append((await tools.call(name, {"video_id": video.video_id, **more}))[0])

    asyncio.run(run())
    text = "\n".join(said)
    assert SENTINEL not in text
    assert str(SENTINEL_NUMBER) not in text
    assert not any(task.question.text in text for task in tasks)
    for wrong in ({"grounding": "oracle"}, {"unsafe_boxes": True}):
        with pytest.raises(SpecError, match="right answer"):
            VideoTools(EnvConfig(dataset="embedded", **wrong))


@settings(max_examples=60)
@given(
    st.sampled_from(["list_videos", "subtitles", "look", "ground", "nope"]),
    st.dictionaries(
        st.sampled_from(["video_id", "clip_id", "query", "seen", "start_s", "offset", "x"]), JSON
    ),
)
def test_whatever_is_called_is_answered(name: str, values: dict[str, Any]) -> None:
    for video_id in ({}, {"video_id": VIDEO.video_id}):
        text, _ = asyncio.run(TOOLS.call(name, {**values, **video_id}))
        assert text


def test_a_span_of_the_whole_video() -> None:
    tools = VideoTools(EnvConfig(dataset="embedded"))
    clip = replace(VIDEO.clips[0], start_s=100.0)
    line = replace(clip.subtitles[0], start_s=5.0, end_s=6.0)
    late = replace(clip.subtitles[0], text="late", start_s=50.0, end_s=None)
    video = replace(VIDEO, clips=(replace(clip, subtitles=(line, late)),))
    tools._videos = {"v": video}
    text, _ = asyncio.run(tools.call("subtitles", {"video_id": "v", "start_s": 104, "end_s": 110}))
    assert text == f"[01:45] {line.text}"
    tools._videos = {"v": replace(video, clips=(replace(clip, start_s=None),))}
    text, well = asyncio.run(tools.call("subtitles", {"video_id": "v", "start_s": 1}))
    assert (text, well) == ("it is unknown when clips start. Fix: name a clip_id.", False)


def test_a_failed_tool_is_an_error_and_the_server_lives_on() -> None:
    async def run() -> None:
        tools = VideoTools(EnvConfig(dataset="embedded", tools=[boom]))
        async with Client(make_server(tools)) as client:
            text, well = await asked(client, "boom", video_id=VIDEO.video_id)
            assert (well, "boom" in text) == (False, True)
            assert (await asked(client, "list_videos"))[1]

    asyncio.run(run())


def test_calls_in_flight_are_bounded() -> None:
    now, most = 0, 0

    async def slow(request: ToolCall) -> str:
        """Waits."""
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return "done"

    async def run() -> None:
        tools = VideoTools(EnvConfig(dataset="embedded", tools=[slow]), in_flight=3)
        calls = [tools.call("slow", {"video_id": VIDEO.video_id}) for _ in range(20)]
        assert all(well for _, well in await asyncio.gather(*calls))

    asyncio.run(run())
    assert most == 3
