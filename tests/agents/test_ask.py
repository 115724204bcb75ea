import json
from pathlib import Path

import pytest

from agents.ask import main
from longvideo_env import EnvConfig, Episode, Question
from longvideo_env.game.protocol.tags import ActionKind, parse
from longvideo_env.game.rules import Rules
from longvideo_env.schema import Clip, TimedText, Video
from longvideo_env.tools.toolbox import ToolResult

ALL = (ActionKind.LOOK, ActionKind.GROUND, ActionKind.ANSWER)
CLIPS = ("film_seg01_clip_00", "film_seg01_clip_01")


@pytest.fixture
def film(tmp_path: Path) -> str:
    """Two clips of a minute: talk in the first, something to be seen in the second."""
    files = {
        "clips": {
            "frames_fps": 3,
            "clips": {c: {"start_s": 60 * i, "end_s": 60 * i + 60} for i, c in enumerate(CLIPS)},
        },
        "subtitles": {
            CLIPS[0]: [{"start_s": 5, "end_s": 6, "text": "Ann : where is the box ?"}],
            CLIPS[1]: [{"start_s": 15.2, "end_s": 16, "text": "Ben : the old man opens the box ."}],
        },
        "captions": {CLIPS[1]: [{"start_s": 14, "end_s": 20, "text": "an old man opens a box"}]},
    }
    for name, value in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return str(tmp_path)


def test_a_question_with_options(film: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--options", "nobody at all", "the old man", "a child"]
    assert main([film, "Who opens the box?", *options]) == 0
    out = capsys.readouterr().out
    assert "answer: a1, the old man" in out
    assert "[film_seg01_clip_01, 01:00-02:00 of the film]" in out
    assert "[01:15] Ben : the old man opens the box ." in out
    assert "  from film_seg01_clip_00, 00:00-01:00 of the film" in out


def test_what_is_seen_has_times_in_the_film(film: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([film, "Who opens the box?", "--window", "2"]) == 0
    assert "[01:14-01:20] an old man opens a box" in capsys.readouterr().out


def test_a_question_without_options_has_an_answer_in_words(
    film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([film, "What does the old man open?"]) == 0
    out = capsys.readouterr().out
    assert "answer: Ben : the old man opens the box ." in out
    assert "a0:" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Who?", "--options", "only one"], "expected 2 to 16 options, got 1"),
        (["  "], "must not be empty"),
        (["Who?", "--video", "other"], "no video 'other'"),
        (["Who?", "--policy", "nobody"], "unknown policy"),
    ],
)
def test_bad_input_is_one_line(
    film: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([film, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_policy_that_needs_options_is_no_crash(
    film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([film, "Who?", "--policy", "random"]) == 3
    assert "no answer: failed (policy (random): " in capsys.readouterr().out


def test_a_folder_without_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "Who?"]) == 2
    assert "the folder holds no clips" in capsys.readouterr().err


def test_the_rules_without_options() -> None:
    answer = parse("<answer>the old man, a3</answer>", 0, ALL).outcome
    assert (answer.argument, answer.choice) == ("the old man, a3", None)
    label = parse("<answer>a1</answer>", 0, ALL).outcome
    question = Question("q", "Who?", (), "film")
    video = Video("film", (Clip(CLIPS[0], (TimedText("hello", 61.0),)),))
    episode = Episode(question, video, Rules.from_config(EnvConfig()))
    episode.start()
    episode.receive(ToolResult("grounding", "test", CLIPS[0]))
    rules, user = (message["content"] for message in episode.messages)
    assert "multiple-choice" not in rules
    assert "<answer>your answer</answer> answers in a few words, and ends the episode." in rules
    assert "[01:01] hello" in user
    episode.reply(f"<answer>{label.argument}</answer>")
    assert (episode.status, episode.choice, episode.words) == ("answered", None, "a1")
