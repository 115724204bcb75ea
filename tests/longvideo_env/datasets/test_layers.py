import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.grounding.offline import rank_clips
from longvideo_env.datasets import load_dataset
from longvideo_env.datasets.layers import KINDS, Maker, read_layers, write_layer
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.datasets.rejects import Rejects
from longvideo_env.errors import MalformedFileError
from longvideo_env.records.identity import digest_texts, video_digest
from longvideo_env.schema import Video

CLIPS = ("film_seg01_clip_00", "film_seg01_clip_01", "film_seg01_clip_02")
TINY = Maker("speech", "whisper:tiny", "1", {"beam": 5})
SIGNS = Maker("text", "rapidocr", "1")
SEEN = Maker("captions", "vlm:tiny", "1")


def line(text: str, start_s: float = 1.0) -> list[dict[str, Any]]:
    return [{"start_s": start_s, "end_s": start_s + 1, "text": text}]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    spans = {c: {"start_s": 60 * i, "end_s": 60 * i + 60} for i, c in enumerate(CLIPS)}
    clips = {"frames_fps": 3, "clips": spans}
    (tmp_path / "clips.json").write_text(json.dumps(clips), encoding="utf-8")
    return tmp_path


def video_of(folder: Path) -> Video:
    (video,) = load_videos(folder).values()
    return video


def test_what_was_heard_is_the_dialogue_of_a_film_without_any(film: Path) -> None:
    write_layer(film, TINY, {CLIPS[1]: line("Hello there.")})
    clip = video_of(film).clips[1]
    assert [x.text for x in clip.subtitles] == ["Hello there."]
    assert clip.layers == ()
    assert [x.text for x in clip.searched] == ["Hello there."]
    (film / "subtitles.json").write_text(json.dumps({CLIPS[0]: line("A line.")}))
    clip = video_of(film).clips[1]
    assert clip.subtitles == ()
    assert [x.text for x in clip.layer("speech")] == ["Hello there."]


def test_bm25_finds_what_stands_in_any_layer(film: Path) -> None:
    (film / "subtitles.json").write_text(json.dumps({CLIPS[0]: line("we close the door")}))
    write_layer(film, SIGNS, {CLIPS[1]: line("NO ENTRY")})
    write_layer(film, SEEN, {CLIPS[2]: line("a red lighthouse by the sea")})
    video = video_of(film)
    assert [rank_clips(video, q)[0] for q in ("door", "entry", "lighthouse")] == list(CLIPS)


def test_the_newest_layer_of_a_kind_is_read_and_none_is_mixed(film: Path) -> None:
    large = Maker("speech", "whisper:large", "1", {"beam": 5})
    old = write_layer(film, TINY, {CLIPS[0]: line("hollow their")})
    new = write_layer(film, large, {CLIPS[0]: line("hello there")})
    assert old != new
    assert [x.text for x in video_of(film).clips[0].subtitles] == ["hello there"]
    write_layer(film, TINY, {CLIPS[0]: line("hullo")})  # made again: it keeps its number
    assert [x.text for x in video_of(film).clips[0].subtitles] == ["hello there"]
    new.unlink()
    assert [x.text for x in video_of(film).clips[0].subtitles] == ["hullo"]


def test_a_layer_changes_what_a_run_is(film: Path) -> None:
    (film / "questions_val.json").write_text(
        json.dumps([{"qid": 1, "q": "Who?", "a0": "Ann", "a1": "Bo", "vid_name": CLIPS[0]}])
    )
    before = load_dataset(str(film), "val")
    write_layer(film, SIGNS, {CLIPS[1]: line("NO ENTRY")})
    after = load_dataset(str(film), "val")
    assert digest_texts(before) != digest_texts(after)
    digests = [video_digest(d.videos["film"]) for d in (before, after)]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "truncated"),
        ('{"kind": "smell", "model": "x", "number": 1, "clips": {}}', "expected a layer with"),
        ('{"kind": "text", "model": "x", "clips": {}}', "expected a layer with"),
        ('{"kind": "text", "model": "x", "number": 1, "clips": []}', "expected 'clips'"),
        (
            f'{{"kind": "text", "model": "x", "number": 1, "clips": {{"{CLIPS[0]}": 3}}}}',
            "expected an array",
        ),
    ],
)
def test_a_wrong_layer_is_named(film: Path, content: str, message: str) -> None:
    (film / "layers").mkdir()
    (film / "layers" / "text.json").write_text(content)
    with pytest.raises(Exception, match=message) as caught:
        load_videos(film)
    assert "text.json" in str(caught.value)


@given(st.dictionaries(st.sampled_from(["kind", "model", "number", "clips"]), st.from_type(
    type(None)) | st.integers() | st.text() | st.lists(st.integers()) | st.dictionaries(
    st.text(), st.text())))  # fmt: skip
def test_any_content_is_read_or_named(value: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "layer.json")
        file.write_text(json.dumps(value))
        with suppress(MalformedFileError):
            assert all(x.kind in KINDS for x in read_layers([file], Rejects(skip_invalid=True)))
