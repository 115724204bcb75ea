import json
import re
from pathlib import Path

import pytest

from agents.ask import main
from agents.perception.embeddings import model_at_hand
from longvideo_env import Episode, Question
from longvideo_env.game.game import default_game
from longvideo_env.schema import Clip, TimedText, Video
from longvideo_env.tools.tool import ToolReply, ToolResult

CLIPS = ("film_seg01_clip_00", "film_seg01_clip_01")


@pytest.fixture(autouse=True)
def hub_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub without models."""
    cache = tmp_path_factory.mktemp("hub")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def cache_model(cache: Path, model: Path) -> Path:
    """Put a model into a cache of the hub, as a download does. Returns its folder."""
    repo = cache / "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = repo / "snapshots" / "abc"
    (snapshot / "onnx").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    (snapshot / "onnx" / "model.onnx").symlink_to(model / "model.onnx")
    (snapshot / "tokenizer.json").symlink_to(model / "tokenizer.json")
    return snapshot


@pytest.fixture
def film(tmp_path: Path) -> str:
    """Two clips of a minute: dialogue in the first, something visible in the second."""
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
    assert "answered by quote (offline, counts words: a floor, not an answer)" in out
    assert "answer: a1, the old man\n  01:15 Ben : the old man opens the box .\n" in out
    assert "[film_seg01_clip_01, 01:00-02:00 of the film]" in out
    assert "[01:15-01:16] Ben : the old man opens the box ." in out
    assert "  looked at 01:00-02:00, 00:00-01:00 of the film" in out
    assert not re.search(r"</?\w", out)


def test_what_is_seen_has_times_in_the_film(film: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([film, "Who opens the box?", "--window", "2"]) == 0
    assert "[01:14-01:20] an old man opens a box" in capsys.readouterr().out


def test_a_question_without_options_has_an_answer_in_words(
    film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([film, "What does the old man open?"]) == 0
    out = capsys.readouterr().out
    assert "answer: Ben : the old man opens the box .\n  01:15 Ben : the old man" in out
    assert "a0:" not in out


@pytest.mark.parametrize("options", [[], ["--options", "Ann Lee", "Bo Hill"]])
def test_what_the_film_does_not_speak_of_is_no_answer(
    film: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([film, "Which planet is the spaceship from?", *options]) == 0
    out = capsys.readouterr().out
    if options:
        assert re.search(r"answer: a\d, .* \(a guess: nothing in the film speaks of this\)", out)
    else:
        assert "answer: nothing in the film speaks of this\n" in out


def test_an_option_that_no_line_names_is_a_guess(
    film: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([film, "What does the old man open?", "--options", "a door", "a gate"]) == 0
    out = capsys.readouterr().out
    assert "(a guess: no line that speaks of the question names it)\n  01:15 Ben" in out


def test_the_key_opens_the_car(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {CLIPS[0]: [{"start_s": 1, "end_s": 2, "text": "The dog barked."}],
             CLIPS[1]: [{"start_s": 3, "end_s": 4, "text": "The key opens the car."}]}  # fmt: skip
    (tmp_path / "subtitles.json").write_text(json.dumps(lines))
    assert main([str(tmp_path), "What opens the car?", "--options", "the dog", "the key"]) == 0
    assert "answer: a1, the key\n  film_seg01_clip_01: The key" in capsys.readouterr().out


def test_a_film_of_which_nothing_is_known_stops_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "subtitles.json").write_text(json.dumps({CLIPS[0]: []}))
    assert main([str(tmp_path), "Who?"]) == 2
    assert "the agents have no input for film: it has no subtitles" in capsys.readouterr().err
    assert main([str(tmp_path), "Who?", "--vision", "openai:gpt"]) == 2
    assert (
        "film: the video has no frames, which --vision openai:gpt looks at. Fix:"
        in capsys.readouterr().err
    )


PAIRS = json.loads((Path(__file__).parents[1] / "data/ask/film_lines.json").read_text())


def film_of_lines(folder: Path) -> str:
    """Sixty lines in twelve clips."""
    clips: dict[str, list[dict[str, object]]] = {}
    for i, text in enumerate(PAIRS["lines"]):
        lines = clips.setdefault(f"film_seg01_clip_{i // 5:02d}", [])
        lines.append({"start_s": 3 * (i % 5), "end_s": 3 * (i % 5) + 2, "text": text})
    (folder / "subtitles.json").write_text(json.dumps(clips))
    spans = {c: {"start_s": 15 * i, "end_s": 15 * i + 15} for i, c in enumerate(clips)}
    (folder / "clips.json").write_text(json.dumps({"frames_fps": 3, "clips": spans}))
    return str(folder)


def count_right(
    folder: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> dict[str, int]:
    """The number of pairs with the right line, and of questions that get no answer."""
    film, counts = film_of_lines(folder), {"direct": 0, "paraphrase": 0, "nothing": 0}
    for pair in PAIRS["pairs"]:
        assert main([film, pair["question"], *more]) == 0
        out = capsys.readouterr().out
        given = re.search(r"^answer: (.*)\n  (?:the nearest[^\n]*: )?\d\d:\d\d (.*)$", out, re.M)
        counts[pair["half"]] += given is not None and given[2] == pair["line"]
    for question in PAIRS["nothing"]:
        assert main([film, question, *more]) == 0
        counts["nothing"] += "answer: nothing in the film speaks" in capsys.readouterr().out
    return counts


def test_thirty_pairs_by_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = count_right(tmp_path, [], capsys)
    assert counts == {"direct": 15, "paraphrase": 0, "nothing": 8}


def test_a_model_at_hand_is_taken_and_else_one_line_says_what_is_missing(
    film: str, tmp_path: Path, hub_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    assert main([film, "Who opens the box?"]) == 0
    said = "meaning: lines are found by words only, no embedding model is installed. Fix: hf"
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert main([film, "Who opens the box?", "--meaning", "none"]) == 0
    assert capsys.readouterr().err == ""
    for name in ("model.onnx", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    folder = cache_model(hub_cache, tmp_path)
    assert model_at_hand() == str(folder)
    assert main([film, "Who opens the box?"]) == 1
    assert f"the model in {folder} cannot be loaded" in capsys.readouterr().err


@pytest.mark.slow
def test_thirty_pairs_by_meaning(
    tmp_path: Path, hub_cache: Path, real_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    cache_model(hub_cache, real_models / "minilm")
    counts = count_right(tmp_path, [], capsys)
    with capsys.disabled():
        print(counts)  # noqa: T201 - the figures of docs/films.md
    assert counts["direct"] + counts["paraphrase"] >= 27
    assert counts["nothing"] >= 8


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
    assert main([str(tmp_path), "Who?"]) == 1
    assert "the folder holds no clips" in capsys.readouterr().err


def test_the_rules_without_options() -> None:
    parse = default_game().protocol.parse
    answer = parse("<answer>the old man, a3</answer>", 0).outcome
    assert (answer.argument, answer.choice) == ("the old man, a3", None)
    label = parse("<answer>a1</answer>", 0).outcome
    question = Question("q", "Who?", (), "film")
    video = Video("film", (Clip(CLIPS[0], (TimedText("hello", 61.0),)),))
    episode = Episode(question, video, default_game())
    episode.start()
    episode.receive(ToolResult("ground", "test", ToolReply(view=CLIPS[0])))
    rules, user = (message["content"] for message in episode.messages)
    assert "multiple-choice" not in rules
    assert "<answer>your answer</answer> answers in a few words, and ends the episode." in rules
    assert "[01:01] hello" in user
    episode.reply(f"<answer>{label.argument}</answer>")
    assert (episode.status, episode.choice, episode.words) == ("answered", None, "a1")


@pytest.mark.parametrize("options", [[], ["--options", "nobody", "the old man"]])
def test_calls_of_functions_read_as_tags_do(
    film: str, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    said = []
    for protocol in ("tags", "functions"):
        question = [film, "Who opens the box?", *options]
        assert main([*question, "--protocol", protocol]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "master │ Next step: look.\n       │ look: Who opens the box?" in said[1]
