import pytest

from agents.vision.captions import EMPTY, CaptionVision
from longvideo_env.errors import SpecError
from longvideo_env.schema import Clip, Question, TimedText, Video
from longvideo_env.sync import run_immediate
from longvideo_env.testing import VisionContract, vision_call


class TestCaptions(VisionContract):
    def make_agent(self):
        return CaptionVision()


FILM = Video(
    "s01e01",
    (
        Clip(
            "s01e01_seg01_clip_00",
            captions=(
                TimedText("A man reads a newspaper.", 0.0, 4.0),
                TimedText("A red mug stands on the table.", 61.0, 75.5),
                TimedText("The window is open."),
            ),
        ),
        Clip("s01e01_seg01_clip_01", captions=(TimedText("Two people paint a red boat.", 1.0),)),
        Clip("s01e01_seg01_clip_02"),
    ),
)
QUESTION = Question(1, "q", ("x", "y"), "s01e01")


def look(query, *clips, spec=""):
    window = tuple(FILM.clip_ids[i] for i in clips)
    return run_immediate(CaptionVision(spec).look(vision_call(QUESTION, FILM, query, window)))


def test_what_matches_best_comes_first_with_its_time():
    reply = look("where is the red mug", 0)
    assert reply.text.splitlines()[0] == "[01:01-01:15] A red mug stands on the table."
    assert "The window is open." in reply.text.splitlines()
    assert reply.details["n_captions"] == 3
    first, *others = reply.details["captions"]
    assert first == [FILM.clip_ids[0], 61.0, 75.5, "A red mug stands on the table."]
    assert [FILM.clip_ids[0], None, None, "The window is open."] in others


def test_the_whole_window_is_looked_at_and_clips_are_named():
    lines = look("red boat paint", 0, 1, 2).text.splitlines()
    assert lines[0] == "[s01e01_seg01_clip_01 00:01-00:01] Two people paint a red boat."
    assert len(lines) == 4


def test_k_bounds_the_number():
    assert len(look("mug", 0, 1, spec="2").text.splitlines()) == 2
    for spec in ("0", "x", "-1", "1.5"):
        with pytest.raises(SpecError, match="captions:K"):
            CaptionVision(spec)


def test_nothing_to_tell_is_an_answer_not_a_failure():
    assert look("mug", 2).text == EMPTY["captions"]
