"""Search by meaning with the real MiniLM, and invalid specs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.evidence import FilmLines, film_lines, stems
from agents.grounding.meaning import EmbedGrounding, FusedGrounding, nearness, passages
from agents.grounding.single_lines import LineGrounding
from agents.perception.embeddings import embed_cached, open_embedder
from agents.vision.captions import TextVision
from eval.recall import main as recall
from longvideo_env.errors import SpecError
from longvideo_env.schema import Clip, Layer, Question, TimedText, Video
from longvideo_env.sync import run_blocking
from longvideo_env.tools.tool import ToolCall


def video(*texts: str) -> Video:
    clips = tuple(
        Clip(f"v_seg01_clip_{i:02d}", tuple(TimedText(t) for t in text.split("|") if t))
        for i, text in enumerate(texts)
    )
    return Video("v", clips)


def named(agent: Any, film: Video, text: str, visited: tuple[str, ...] = ()) -> int:
    request = ToolCall(Question(1, text, (), "v"), film, "ground", {}, (), visited)
    return film.clip_ids.index(run_blocking(agent.ground(request)).text)


@pytest.mark.slow
def test_meaning_finds_what_shares_no_word(real_models: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = str(real_models / "minilm")
    film = video(
        "we talked about the weather", "The kid drowned in the lake.", "", "buy some bread"
    )
    for agent in (
        EmbedGrounding(model),
        FusedGrounding(f"bm25+embed:{model},weight=0.5"),
        LineGrounding(model),
    ):
        assert named(agent, film, "How did the boy die?") == 1
        assert named(agent, film, "How did the boy die?", (film.clip_ids[1],)) != 1
    scores = nearness(film, "How did the boy die?", open_embedder(model))
    assert scores[2] == -1.0
    assert scores.argmax() == 1


@pytest.mark.slow
def test_vectors_come_again_from_the_cache(real_models: Path) -> None:
    pytest.importorskip("onnxruntime")
    embedder = open_embedder(str(real_models / "minilm"))
    texts = ["a dog", "a very small dog " * 40, "the sea"]
    first = embed_cached(embedder, texts)
    assert first.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(embed_cached(embedder, texts), first)
    assert embedder.embed([]).shape[0] == 0


@pytest.mark.slow
def test_fused_on_the_dev_pack_is_not_below_bm25(
    real_models: Path, shared_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    fused, file = f"fused:bm25+embed:{real_models / 'minilm'}", tmp_path / "numbers.json"
    arguments = ["--grounding", "bm25", "--grounding", fused, "--limit", "100", "--json", str(file)]
    assert recall([str(shared_data / "tvqa_plus_dev"), "--split", "val", *arguments]) == 0
    agents = json.loads(file.read_text())["agents"]
    assert agents[fused]["recall@5"][0] >= agents["bm25"]["recall@5"][0] - 0.05


def test_fused_without_weight_is_bm25_and_its_spec_is_checked(tmp_path: Path) -> None:
    for spec in ("bm25", "bm25+bm25", "embed:x+bm25", "bm25+embed:x,weight=2", "bm25+embed:"):
        with pytest.raises(SpecError):
            FusedGrounding(spec)
    with pytest.raises(SpecError, match=r"model\.onnx"):
        EmbedGrounding(str(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(SpecError, match="cannot be loaded"):
        EmbedGrounding(str(tmp_path))


def test_lines_prefers_the_line_with_the_rare_words() -> None:
    film = video(
        "the box the box the box|a box is a box", "He found the old key in the box.", "nothing here"
    )
    assert named(LineGrounding(), film, "Which key did he find in the box?") == 1
    assert named(LineGrounding(), film, "Where is the spaceship?") == 0
    assert named(LineGrounding(), film, "Where is the spaceship?", (film.clip_ids[0],)) == 1


def test_a_long_clip_is_several_passages() -> None:
    (clip,) = video("|".join(["one two three four five six"] * 25)).clips
    found = list(passages(clip))
    assert [len(text.split()) for text in found] == [60, 60, 30]


def test_stems_meet() -> None:
    pairs = [("finds", "found"), ("leaving", "left"), ("cities", "city"), ("stopped", "stop"),
             ("opens", "opening"), ("Ann's", "Ann")]  # fmt: skip
    for one, other in pairs:
        assert list(stems(one)) == list(stems(other)), (one, other)


@given(st.lists(st.text(max_size=60), max_size=6), st.text(max_size=60))
def test_scores_are_shares(texts: list[str], query: str) -> None:
    lines = FilmLines([("c", TimedText(text)) for text in texts])
    scores = lines.scores(query)
    assert scores.shape == (len(texts),)
    assert ((scores >= 0) & (scores <= 1 + 1e-9)).all()
    assert all(found.score > 0 for found in lines.best(query, n=9))


@pytest.mark.slow
def test_the_same_scores_in_every_process() -> None:
    """Float sums depend on the order, and the order of sets on the process."""
    code = (
        "from agents.evidence import FilmLines; from longvideo_env.schema import TimedText as T;"
        "lines = FilmLines([('c', T(t)) for t in ('the old key of the mill', 'a mill and a key')]);"
        "print([x.hex() for x in lines.scores('which mill does the rusty old key open today?')])"
    )
    outs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outs) == 1


def test_text_that_was_read_is_a_vision_agent() -> None:
    read = Layer(
        "text", "rapidocr", (TimedText("NO ENTRY", 2, 4), TimedText("Cafe Bluebird", 5, 9))
    )
    film = Video("v", (Clip("v_seg01_clip_00", layers=(read,)), Clip("v_seg01_clip_01")))
    request = ToolCall(
        Question(1, "?", (), "v"), film, "look", {"query": "which cafe?"}, film.clip_ids[:1]
    )
    reply = run_blocking(TextVision("1").look(request))
    assert (reply.text, reply.details["n_captions"]) == ("[00:05-00:09] Cafe Bluebird", 1)
    empty = ToolCall(request.question, film, "look", {"query": "x"}, film.clip_ids[1:])
    assert run_blocking(TextVision().look(empty)).text.startswith("No text was read")
    assert [line.text for _, line in film_lines(film).placed] == ["NO ENTRY", "Cafe Bluebird"]
