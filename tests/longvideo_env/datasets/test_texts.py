import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.datasets.rejects import Rejects
from longvideo_env.datasets.tvqa.texts import (
    build_captions,
    read_captions,
    read_clip_subtitles,
    read_episode_subtitles,
    split_labels,
    split_utterances,
)
from longvideo_env.errors import InvalidRowError
from longvideo_env.schema import TimedText

CLIP = "s05e02_seg02_clip_00"


def written(path: Path, content: Any) -> Path:
    file = path / "file.json"
    file.write_text(json.dumps(content))
    return file


def test_utterances_are_split_and_empty_ones_dropped() -> None:
    text = " Hi . <eos><eos>  שלום </seg01_clip_00> <eos> "
    assert split_utterances(text) == (TimedText("Hi ."), TimedText("שלום </seg01_clip_00>"))
    assert split_utterances("") == ()


@given(st.dictionaries(st.integers(0, 99), st.text()))
def test_labels_come_apart_as_they_were_put_together(texts: dict[int, str]) -> None:
    clips = {f"seg01_clip_{n:02d}": text for n, text in texts.items()}
    joined = "".join(f"<{label}>{text}</{label}>" for label, text in clips.items())
    assert split_labels(joined) == clips


def test_labels_within_dialogue_do_not_end_a_clip() -> None:
    odd = "a </seg01_clip_00> b </seg01_clip_01> <seg01_clip_02> c"
    text = f"<seg01_clip_00>{odd}</seg01_clip_00>\n<seg01_clip_01>d</seg01_clip_01> "
    assert split_labels(text) == {"seg01_clip_00": odd, "seg01_clip_01": "d"}


@pytest.mark.parametrize(
    "text",
    [
        "no labels",
        "<seg01_clip_00>cut off",
        "before<seg01_clip_00>a</seg01_clip_00>",
        "<seg01_clip_00>a</seg01_clip_00>after",
        "<seg01_clip_00>a</seg01_clip_00><seg01_clip_00>b</seg01_clip_00>",
        "<../x>a</../x>",
    ],
)
def test_text_outside_labels_is_told(text: str) -> None:
    assert split_labels(text) is None


def test_clip_and_episode_level_give_the_same(tmp_path: Path) -> None:
    expected = {CLIP: "a <eos> b", "s05e02_seg02_clip_01": ""}
    by_clip = written(tmp_path, {CLIP: "a <eos> b", "s05e02_seg02_clip_01": None})
    assert read_clip_subtitles(by_clip, Rejects(skip_invalid=False)) == expected
    labelled = "<seg02_clip_00>a <eos> b</seg02_clip_00><seg02_clip_01></seg02_clip_01>"
    by_video = written(tmp_path, {"s05e02": labelled, "s05e03": None})
    assert read_episode_subtitles(by_video, Rejects(skip_invalid=False)) == expected


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (read_clip_subtitles, {CLIP: "a"}, {"../x": "a"}),
        (read_clip_subtitles, {CLIP: "a"}, {"s05e02_seg02_clip_01": ["a"]}),
        (read_clip_subtitles, {CLIP: "a"}, {"s05e02_seg02_clip_01": "\ud83d"}),
        (read_episode_subtitles, {"s01e01": "<seg01_clip_00></seg01_clip_00>"}, {"a/b": ""}),
        (read_episode_subtitles, {"s01e01": "<seg01_clip_00></seg01_clip_00>"}, {"s01e02": 3}),
        (read_episode_subtitles, {"s01e01": "<seg01_clip_00></seg01_clip_00>"}, {"s01e02": "x"}),
        (read_captions, {CLIP: []}, {"../x": []}),
        (read_captions, {CLIP: []}, {"s05e02_seg02_clip_01": "a"}),
        (read_captions, {CLIP: []}, {"s05e02_seg02_clip_01": ["a"]}),
        (read_captions, {CLIP: []}, {"s05e02_seg02_clip_01": [{"start_s": 1}]}),
        (read_captions, {CLIP: []}, {"s05e02_seg02_clip_01": [{"text": "a", "start_s": "1"}]}),
        (read_captions, {CLIP: []}, {"s05e02_seg02_clip_01": [{"text": "a", "end_s": -1}]}),
        (read_captions, {CLIP: []}, {"s05e02_seg02_clip_01": [{"text": "a", "end_s": True}]}),
        (read_captions, {CLIP: []}, {"s05e02_seg02_clip_01": [{"text": "a", "end_s": 10**400}]}),
    ],
)
def test_bad_entries_are_invalid_rows(tmp_path: Path, read: Any, good: Any, bad: Any) -> None:
    file = written(tmp_path, {**good, **bad})
    with pytest.raises(InvalidRowError, match="expected") as error:
        read(file, Rejects(skip_invalid=False))
    assert error.value.row == next(iter(bad))
    rejects = Rejects(skip_invalid=True)
    assert len(read(file, rejects)) == 1
    assert [error.row for error in rejects.errors] == [next(iter(bad))]


def test_captions_with_and_without_times(tmp_path: Path) -> None:
    entries = [
        {"start_s": 1, "end_s": 2.5, "text": " A cup. "},
        {"start_s": None, "end_s": None, "text": "A lamp."},
        {"text": "A book."},
        {"text": " "},
    ]
    captions = read_captions(written(tmp_path, {CLIP: entries}), Rejects(skip_invalid=False))
    assert build_captions(captions[CLIP]) == (
        TimedText("A cup.", 1.0, 2.5),
        TimedText("A lamp."),
        TimedText("A book."),
    )
