"""A real model transcribes real speech into lines of the clips."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faster_whisper")
av = pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parent))

from films import write_film  # noqa: E402

from agents.grounding.offline import rank_clips  # noqa: E402
from agents.perception.whisper import WhisperReader, sentences  # noqa: E402
from longvideo_env.commands.data.ingest import IngestOptions, ingest, main  # noqa: E402
from longvideo_env.commands.data.ingest_layers import reader_of  # noqa: E402
from longvideo_env.datasets.own.ingested import load_videos  # noqa: E402
from longvideo_env.errors import SpecError  # noqa: E402
from longvideo_env.media.sound import RATE, read_sound  # noqa: E402
from longvideo_env.media.subtitles import read_subtitles  # noqa: E402

READ_ALOUD = {
    "two_cities": (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
        "age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was "
        "the season of light, it was the season of darkness, it was the spring of hope, it was the "
        "winter of despair, we had everything before us, we had nothing before us, we were all "
        "going direct to heaven, we were all going direct the other way. In short, the period was "
        "so far like the present period that some of its noisiest authorities insisted on its "
        "being received, for good or for evil, in the superlative degree of comparison only."
    ),
    "beckett": "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.",
}


@pytest.fixture(autouse=True)
def no_reader_of_another_test() -> None:
    reader_of.cache_clear()


GREY = np.full((36, 64, 3), 90, np.uint8)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def error_rate(said: str, heard: str) -> float:
    """The word error rate: changed, added and missing words per spoken word."""
    a, b = words(said), words(heard)
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (word != other))
    return row[-1] / len(a)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READ_ALOUD))
def test_a_film_without_subtitles_is_heard(
    name: str, real_models: Path, whisper_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    recording = real_models / "moonshine_voice" / "assets" / f"{name}.wav"
    film = write_film(tmp_path / "film.mp4", [GREY] * 23, 2.0, recording)
    out = tmp_path / "out"
    options = ["--clip-s", "15", "--fps", "1", "--speech", f"whisper:{whisper_folder},language=en"]
    assert main([str(film), "--out", str(out), *options]) == 0
    assert "(whisper:model); language en" in capsys.readouterr().out
    (video,) = load_videos(out).values()
    heard = " ".join(line.text for clip in video.clips for line in clip.subtitles)
    rate = error_rate(READ_ALOUD[name], heard)
    sys.stdout.write(f"word error rate on {name}: {rate:.3f}\n")
    assert rate <= 0.1
    written = read_subtitles(out / "speech.srt")
    assert " ".join(line.text for line in written.lines) == heard
    if name == "two_cities":
        assert rank_clips(video, "superlative degree of comparison")[0] == video.clip_ids[-1]
        starts = [line.start_s for line in written.lines]
        assert starts[0] == pytest.approx(0.8, abs=0.5)
        assert starts == sorted(starts)


@pytest.mark.slow
def test_a_battle_with_music_has_no_invented_line(
    shared_data: Path, whisper_folder: Path, tmp_path: Path
) -> None:
    film = shared_data / "video" / "tears-of-steel-battle.webm"
    record = ingest(
        film, tmp_path / "out", options=IngestOptions(fps=0.1, speech=str(whisper_folder))
    )
    assert record["layers"] == ["speech: 0 lines (whisper:model); no speech found"]
    (video,) = load_videos(tmp_path / "out").values()
    assert all(not clip.subtitles for clip in video.clips)
    assert (tmp_path / "out" / "speech.srt").read_text() == ""


@pytest.mark.slow
def test_auto_hears_with_a_model_that_is_at_hand(
    real_models: Path, whisper_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    repo = tmp_path / "hub" / "models--Systran--faster-whisper-tiny.en"
    shutil.copytree(whisper_folder, repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    recording = real_models / "moonshine_voice" / "assets" / "beckett.wav"
    record = ingest(recording, tmp_path / "out")
    assert record["layers"] == ["speech: 6 lines (whisper:tiny.en); language en"]
    srt = tmp_path / "t.srt"
    srt.write_text("1\n00:00:01,000 --> 00:00:02,000\nEver tried.\n")
    assert ingest(recording, tmp_path / "with", subtitles=srt)["layers"] == []


def test_auto_without_a_model_says_so_in_one_line(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    film = write_film(tmp_path / "film.mp4", [GREY] * 2)
    assert main([str(film), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "speech: not heard, no Whisper model is in the cache. Fix: --speech whisper:small" in out
    assert main([str(film), "--out", str(tmp_path / "none"), "--speech", "none"]) == 0
    assert "speech" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "message", "code"),
    [
        ("whisper", "expected whisper:SIZE", 2),
        ("whisper:./nowhere", "no folder './nowhere'", 1),
        ("whisper:tiny,beam=0", "beam must be at least 1", 2),
        ("whisper:tiny,speed=2", "unknown option 'speed'", 2),
        ("listener", "unknown reader of speech 'listener'", 2),
    ],
)
def test_a_wrong_spec_is_one_line(
    spec: str, message: str, code: int, tmp_path: Path, capsys: Any
) -> None:
    film = write_film(tmp_path / "film.mp4", [GREY] * 2)
    assert main([str(film), "--out", str(tmp_path / "out"), "--speech", spec]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(SpecError, match="cannot be loaded"):
        WhisperReader(str(tmp_path / "model"))


def test_sound_keeps_the_clock_of_the_film(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as film:
        video = film.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 36, "yuv420p"
        track = film.add_stream("pcm_s16le", rate=8000)
        track.layout = "mono"
        for i in range(40):
            shown = av.VideoFrame.from_ndarray(GREY, format="rgb24")
            shown.pts = i
            film.mux(video.encode(shown))
        film.mux(video.encode(None))
        for second in (2, 3, 6):  # starts late, and stops for two seconds
            loud = av.AudioFrame.from_ndarray(
                np.full((1, 8000), 16_000, np.int16), format="s16", layout="mono"
            )
            loud.sample_rate, loud.pts = 8000, second * 8000
            film.mux(track.encode(loud))
        film.mux(track.encode(None))
    sound = read_sound(path)
    assert sound.length_s == pytest.approx(7, abs=0.05)
    loud_at = [bool(np.abs(sound.samples[int((t + 0.5) * RATE)]) > 0.2) for t in range(7)]
    assert loud_at == [False, False, True, True, False, False, True]


def test_a_film_without_a_sound_track_has_none(tmp_path: Path) -> None:
    sound = read_sound(write_film(tmp_path / "film.mp4", [GREY] * 2))
    assert (len(sound.samples), sound.has_track) == (0, False)


def test_words_become_sentences() -> None:
    said = [(" Dr.", 0, 1), (" No", 1, 2), (" left.", 2, 3), (" Where", 3, 3.5), (" to", 6, 7)]
    lines = [(x.text, x.start_s, x.end_s) for x in sentences(said)]
    assert lines == [("Dr. No left.", 0, 3), ("Where", 3, 3.5), ("to", 6, 7)]
    assert list(sentences([])) == []


def test_the_record_of_a_film_says_what_was_made(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", [GREY] * 2)
    ingest(film, tmp_path / "out", options=IngestOptions(speech="none"))
    record = json.loads((tmp_path / "out" / "film.json").read_text())
    assert record["layers"] == []
    assert record["options"]["speech"] == "none"
