"""Captions from a model behind an endpoint, a server on this machine."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("openai")
pytest.importorskip("aiohttp")
Image = pytest.importorskip("PIL.Image")
sys.path.insert(0, str(Path(__file__).parents[1]))

from fake_server import completion, error, running  # noqa: E402

from agents.describe import main  # noqa: E402
from agents.perception.api_captions import ApiCaptioner  # noqa: E402
from agents.perception.clip_captions import ApiStretchCaptioner, stretch_lines  # noqa: E402
from longvideo_env.datasets.own.ingested import load_videos  # noqa: E402
from longvideo_env.errors import SpecError  # noqa: E402

CLIPS = ("film_seg01_clip_00", "film_seg01_clip_01")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two clips of four frames, one per second."""
    spans = {c: {"start_s": 4 * i, "end_s": 4 * i + 4} for i, c in enumerate(CLIPS)}
    text = json.dumps({"frames_fps": 1, "clips": spans})
    (tmp_path / "clips.json").write_text(text)
    for i, clip in enumerate(CLIPS):
        (tmp_path / "frames" / clip).mkdir(parents=True)
        for k in range(4):
            shade = np.full((36, 64, 3), 30 * (4 * i + k), np.uint8)
            Image.fromarray(shade).save(tmp_path / "frames" / clip / f"{k + 1:05d}.jpg")
    return tmp_path


def arguments(film: Path, url: str) -> list[str]:
    return [str(film), "--with", f"openai:m@{url},every_s=1,batch=4"]


def test_frames_are_captioned(film: Path, capsys: Any) -> None:
    async def answer(body: Any, n: int) -> Any:
        await asyncio.sleep(0.05)
        return completion(f"<think>hm</think> A  picture\n{n}.")

    with running(answer) as server:
        assert main(arguments(film, server.url)) == 0
        assert len(server.bodies) == 8
        assert server.peak > 1
        parts = server.bodies[0]["messages"][0]["content"]
        assert [part["type"] for part in parts] == ["text", "image_url"]
        assert main(arguments(film, server.url)) == 0
        assert len(server.bodies) == 8  # no request is repeated
    (video,) = load_videos(film).values()
    assert len(video.clips[0].layer("captions")) == 4
    assert video.clips[0].layer("captions")[0].text.startswith("A picture ")
    assert video.clips[0].layers[0].model == "openai:m"
    out = capsys.readouterr().out
    assert "captions: 8 lines from 8 frames (openai:m)" in out
    assert "already exists" in out


def test_what_fails_is_listed_and_only_that_is_asked_again(film: Path, capsys: Any) -> None:
    def answer(body: Any, n: int) -> Any:
        return error(400, "too dark") if n == 1 else completion(f"picture {n}")

    with running(answer) as server:
        code = main(arguments(film, server.url))
        first = len(server.bodies)
        # The failed frame was requested again alone, and then it worked.
        assert (code, first) == (0, 9)


def test_an_endpoint_that_only_fails_leaves_no_layer(film: Path, capsys: Any) -> None:
    with running(lambda body, n: error(400, "no such model")) as server:
        assert main(arguments(film, server.url)) == 3
    assert "no such model" in capsys.readouterr().err
    assert not list((film / "layers").glob("*.json"))


def test_stretches_have_subjects_and_events(film: Path) -> None:
    subjects = ["a man", {"name": "Rex", "looks": "a dog"}]
    said = f"```json\n{json.dumps({'subjects': subjects, 'events': 'He runs.'})}```"
    with running(lambda body, n: completion(said if n == 0 else "no JSON")) as server:
        spec = f"openai-clips:m@{server.url},every_s=4,frames=3"
        assert main([str(film), "--with", spec]) == 0
        assert len(server.bodies) == 2
        assert len(server.bodies[0]["messages"][0]["content"]) == 4
        assert "subjects" in server.bodies[0]["messages"][0]["content"][0]["text"]
    (video,) = load_videos(film).values()
    lines = sorted(line.text for clip in video.clips for line in clip.layer("captions"))
    assert lines == ["He runs.", "Subjects: a man; Rex, a dog", "no JSON"]


KEYS = st.sampled_from(["subjects", "events", "x"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@given(st.text(max_size=200) | VALUES.map(json.dumps))
def test_any_reply_becomes_lines(reply: str) -> None:
    lines = stretch_lines(reply)
    assert all(line.strip() for line in lines)
    assert bool(lines) == bool(reply.strip())


@pytest.mark.parametrize("argument", ["", "m,every_s=0", "m,batch=0", "m,colour=red"])
def test_a_wrong_spec_is_named(argument: str) -> None:
    with pytest.raises(SpecError):
        ApiCaptioner(argument)


def test_a_stretch_needs_two_frames() -> None:
    with pytest.raises(SpecError, match="frames must be at least 2"):
        ApiStretchCaptioner("m,frames=1")
    assert ApiStretchCaptioner("m@http://127.0.0.1:9").every_s == 10
    made = ApiStretchCaptioner("m@http://127.0.0.1:9,every_s=5,frames=4")
    assert (made.every_s, made.together) == (5, 4)
