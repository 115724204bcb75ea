"""Small videos and questions."""

import pytest

from longvideo_env.schema import Clip, Question, TimedText, Video


@pytest.fixture
def film():
    return Video(
        "s01e01",
        tuple(
            Clip(
                f"s01e01_seg01_clip_{i:02d}",
                (TimedText(f"Ann : line of clip {i}"),),
                (TimedText(f"picture of clip {i}", 0.0, 5.0),),
            )
            for i in range(6)
        ),
    )


@pytest.fixture
def question():
    return Question(7, "What colour is the mug?", ("red", "blue", "green"), "s01e01")
