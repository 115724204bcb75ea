"""A real model reads text drawn into a film's frames. Its weights are in its wheel."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rapidocr")
pytest.importorskip("av")
sys.path.insert(0, str(Path(__file__).parent))

from films import drawn, write_film

from agents.grounding.offline import rank_clips
from agents.perception.screen_text import ScreenTextReader
from longvideo_env.commands.data.ingest import main
from longvideo_env.datasets.own.ingested import load_videos
from longvideo_env.errors import SpecError, ToolError

TEXTS = (
    "Chapter 3: The Harbour",
    "NO ENTRY",
    "London, 14 March 1952",
    "Platform 9 departs 10:45",
    "Cafe Bluebird",
    "Directed by Ann Lee",
)


def plain(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()


@pytest.mark.slow
def test_of_six_drawn_texts_five_are_read(tmp_path: Path, capsys: Any) -> None:
    film = write_film(tmp_path / "film.mp4", [drawn(text) for text in TEXTS], 4.0)
    out = tmp_path / "out"
    arguments = ["--clip-s", "8", "--fps", "1", "--speech", "none", "--read-text", "rapidocr"]
    assert main([str(film), "--out", str(out), *arguments]) == 0
    assert re.search(r"text: \d+ lines from 12 frames \(rapidocr\)", capsys.readouterr().out)
    (video,) = load_videos(out).values()
    lines = [(clip, line) for clip in video.clips for line in clip.layer("text")]
    read = {plain(line.text) for _, line in lines}
    n_read = sum(plain(text) in read for text in TEXTS)
    sys.stdout.write(f"texts read: {n_read} of {len(TEXTS)}\n")
    assert n_read >= 5
    assert rank_clips(video, "when does platform 9 depart?")[0] == video.clip_ids[1]
    first = next(line for _, line in lines if plain(line.text) == plain(TEXTS[0]))
    assert (first.start_s, first.end_s) == (0.0, 4.0)


@pytest.mark.slow
def test_plain_pictures_have_no_text(shared_data: Path, tmp_path: Path) -> None:
    film = shared_data / "video" / "tears-of-steel-battle.webm"
    out = tmp_path / "out"
    arguments = ["--fps", "0.1", "--speech", "none", "--read-text", "rapidocr:every_s=10"]
    assert main([str(film), "--out", str(out), *arguments]) == 0
    (layer,) = (out / "layers").glob("text-*.json")
    made = json.loads(layer.read_text())
    texts = [line["text"] for lines in made["clips"].values() for line in lines]
    sys.stdout.write(f"texts in a film without any: {texts}\n")
    assert len(texts) <= 1
    assert made["settings"]["every_s"] == 10


@pytest.mark.parametrize("argument", ["fast", "every_s=0", "score=2", "colour=red"])
def test_a_wrong_option_is_named(argument: str) -> None:
    with pytest.raises(SpecError):
        ScreenTextReader(argument)


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "00001.jpg"
    path.write_bytes(np.zeros(10, np.uint8).tobytes())
    with pytest.raises(ToolError, match=r"00001\.jpg"):
        ScreenTextReader("").read([path])
