import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.ids import group_by_video, is_video_id, parse_clip_id, show_of

VIDEO_IDS = st.from_regex(r"([a-z]{3,8}_)?s[0-9]{2}e[0-9]{2}(-[0-9]{2})?", fullmatch=True)
NUMBERS = st.integers(0, 99)


@pytest.mark.parametrize(
    ("clip_id", "expected"),
    [
        ("s05e02_seg02_clip_00", ("s05e02", 2, 0)),
        ("castle_s01e01_seg02_clip_14", ("castle_s01e01", 2, 14)),
        ("friends_s09e23-24_seg02_clip_12", ("friends_s09e23-24", 2, 12)),
        ("harbour_seg01_clip_100", ("harbour", 1, 100)),
    ],
)
def test_real_clip_ids_are_parsed(clip_id: str, expected: tuple[str, int, int]) -> None:
    assert parse_clip_id(clip_id) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s05e02",
        "s05e02_seg02_clip_",
        "../s05e02_seg02_clip_00",
        "s05e02/../x_seg02_clip_00",
        "s05e02_seg02_clip_00/..",
        "s05e02_seg02_clip_00\n",
        "\ns05e02_seg02_clip_00",
        " s05e02_seg02_clip_00",
        "s05e02\\_seg02_clip_00",
        "s05e02.x_seg02_clip_00",
        "-s05e02_seg02_clip_00",
        "s05e02_seg02_clip_٣",
        "é_seg02_clip_00",
        "x" * 300 + "_seg02_clip_00",
        "s05e02_seg02_clip_" + "9" * 5000,
    ],
)
def test_what_is_no_clip_id_is_refused(text: str) -> None:
    assert parse_clip_id(text) is None


@given(st.text(alphabet=st.characters() | st.sampled_from("./\\_-0az")))
def test_an_id_never_leads_out_of_its_folder(text: str) -> None:
    if parse_clip_id(text) is not None or is_video_id(text):
        assert not set(text) & set("./\\\0\n: ")
        assert text.isascii()


@given(VIDEO_IDS, NUMBERS, NUMBERS)
def test_clip_ids_come_apart_as_they_were_put_together(video: str, segment: int, n: int) -> None:
    assert parse_clip_id(f"{video}_seg{segment:02d}_clip_{n:02d}") == (video, segment, n)


@given(st.lists(st.tuples(VIDEO_IDS, NUMBERS, NUMBERS), unique=True))
def test_clips_are_grouped_and_ordered_as_numbers(parts: list[tuple[str, int, int]]) -> None:
    groups = group_by_video(f"{video}_seg{s}_clip_{n}" for video, s, n in parts)
    ordered = [parse_clip_id(clip_id) for clips in groups.values() for clip_id in clips]
    assert ordered == sorted(parts)


def test_clip_10_comes_after_clip_9_without_padding() -> None:
    groups = group_by_video([f"s01e01_seg1_clip_{n}" for n in (10, 9, 100)])
    assert groups["s01e01"] == ("s01e01_seg1_clip_9", "s01e01_seg1_clip_10", "s01e01_seg1_clip_100")


def test_videos_whose_ids_begin_alike_stay_apart() -> None:
    clips = [f"castle_s0{n}e0{n}_seg01_clip_00" for n in range(1, 8)]
    assert len(group_by_video(clips)) == 7


def test_grouping_refuses_what_is_no_clip_id() -> None:
    with pytest.raises(ValueError, match="expected an id such as"):
        group_by_video(["../etc"])


@pytest.mark.parametrize(
    ("video_id", "show"),
    [
        ("s05e02", "bbt"),
        ("castle_s01e01", "castle"),
        ("friends_s09e23-24", "friends"),
        ("harbour", None),
        ("sintel_short", None),
    ],
)
def test_show_of_an_id(video_id: str, show: str | None) -> None:
    assert show_of(video_id) == show
