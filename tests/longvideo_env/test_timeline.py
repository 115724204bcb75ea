"""One clock for a whole video."""

from hypothesis import given
from hypothesis import strategies as st

from longvideo_env import load_dataset
from longvideo_env.schema import Clip, TimedText, Video
from longvideo_env.timeline import (
    clips_at,
    descriptions,
    dialogue,
    length_s,
    pieces_of,
    seconds_of,
    whole_clips,
    within,
)

VIDEO = Video(
    "film",
    (
        Clip("a", (TimedText("one"), TimedText("two")), (TimedText("a dog"),), 0.0, 40.0),
        Clip("b", (TimedText("three", 5.0, 8.0),), (TimedText("a cat", 10.0, 20.0),), 50.0, 100.0),
    ),
)
SPANS = st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99)).map(sorted).map(tuple), max_size=4)


def test_lines_without_a_time_are_spread_over_their_clip():
    assert [(line.text, line.start_s, line.end_s) for line in dialogue(VIDEO)] == [
        ("one", 0.0, 20.0),
        ("two", 20.0, 40.0),
        ("three", 55.0, 58.0),
    ]
    assert [(one.start_s, one.end_s) for one in descriptions(VIDEO)] == [(0.0, 40.0), (60.0, 70.0)]
    assert [line.text for line in within(dialogue(VIDEO), [(19.0, 20.5)])] == ["one", "two"]
    assert within(dialogue(VIDEO), [(40.0, 55.0)]) == ()


def test_stretches_are_cut_at_the_ends_of_clips_and_gaps_belong_to_none():
    assert length_s(VIDEO) == 100
    assert pieces_of(VIDEO, [(30, 60)]) == (("a", 30.0, 40.0), ("b", 0.0, 10.0))
    assert clips_at(VIDEO, [(41, 49)]) == ()
    assert seconds_of(whole_clips(VIDEO, ["a", "b", "a"])) == 90


@given(SPANS)
def test_pieces_cover_what_the_stretches_cover(spans):
    direct = sum(
        any(start <= at + 0.5 < end for start, end in spans)
        for at in range(100)
        if not 40 <= at < 50
    )
    assert abs(seconds_of(pieces_of(VIDEO, spans)) - direct) <= 2 * len(spans) + 1
    assert seconds_of([*pieces_of(VIDEO, spans)] * 2) == seconds_of(pieces_of(VIDEO, spans))


def test_mini_has_its_own_clock_and_gold_lies_on_it():
    dataset = load_dataset("mini", "test")
    for task in [*dataset][:40]:
        video, gold = dataset.video(task), task.gold
        assert length_s(video) == 60 * len(video.clips)
        at = video.clip_times(gold.clip_id)[0]
        span = (at + gold.span[0], at + gold.span[1])
        if "when is the" in task.question.text:
            (line,) = within(dialogue(video), [(span[0] + 0.1, span[1] - 0.1)])
            assert task.question.options[gold.answer] in line.text
        elif "what colour" in task.question.text:
            seen = " ".join(one.text for one in within(descriptions(video), [span]))
            assert task.question.options[gold.answer] in seen
