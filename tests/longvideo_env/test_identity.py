import os
import shutil
import time

import pytest

from agents.grounding.offline import BM25Grounding
from longvideo_env import load_dataset
from longvideo_env.datasets import loading
from longvideo_env.records import identity
from longvideo_env.records.identity import (
    Identity,
    changed_questions,
    digest_code,
    digest_file,
    digest_folder,
    digest_questions,
    digest_texts,
    name_some,
    question_digests,
)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGVIDEO_ENV_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        (folder / name).write_text(name)
    return folder


def test_what_a_model_is_made_of_counts_and_what_training_leaves_does_not(checkpoint):
    before = digest_folder(checkpoint)
    (checkpoint / "optimizer.pt").write_text("x")
    (checkpoint / "trainer_state.json").write_text("x")
    (checkpoint / "metrics.jsonl").write_text("x")
    (checkpoint / "checkpoint-5").mkdir()
    assert digest_folder(checkpoint) == before
    moved = shutil.copytree(checkpoint, checkpoint.with_name("moved"))
    assert digest_folder(moved) == before
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        (moved / name).write_text("other")
        assert digest_folder(moved) != before
        (moved / name).write_text(name)


def test_a_large_file_is_read_once_until_it_changes(checkpoint, monkeypatch):
    monkeypatch.setattr(identity, "_CACHED_FROM", 0)
    file = checkpoint / "model.safetensors"
    long_ago = time.time() - 100
    os.utime(file, (long_ago, long_ago))
    first = digest_file(file)
    with monkeypatch.context() as patch:
        patch.setattr(identity, "_hash_bytes", lambda path: pytest.fail("read again"))
        assert digest_file(file) == first
    file.write_text("model.safetensorz")  # as long as it was
    assert digest_file(file) != first


def test_a_change_within_the_grain_of_time_stamps_is_seen(checkpoint, monkeypatch):
    monkeypatch.setattr(identity, "_CACHED_FROM", 0)
    file = checkpoint / "config.json"
    now = time.time()
    os.utime(file, (now, now))
    first = digest_file(file)
    file.write_text("config.jsun")
    os.utime(file, (now, now))
    assert digest_file(file) != first


def test_questions_and_keys_that_changed_are_named():
    tasks = list(load_dataset("embedded", "val").tasks)
    before = question_digests(tasks)
    first, second = tasks[0], tasks[1]
    wrong = (first.gold.answer + 1) % len(first.question.options)
    tasks[0] = type(first)(first.question, type(first.gold)(wrong, first.gold.clip_id))
    tasks[1] = second.reorder([1, 0, *range(2, len(second.question.options))])
    now = question_digests(tasks)
    assert changed_questions(before, now) == ([str(second.qid)], [str(first.qid)])
    assert changed_questions(before, now, [str(first.qid)]) == ([], [str(first.qid)])
    shown, _ = changed_questions(before, dict(list(now.items())[2:]))
    assert sorted(shown) == sorted([str(first.qid), str(second.qid)])
    different = Identity(digest_questions(now)).difference(digest_questions(before))
    assert different == ["the questions", "the answer key"]
    assert name_some([str(i) for i in range(7)]) == "0, 1, 2, 3, 4 and 2 more"


def test_parts_that_one_side_does_not_know_are_not_compared():
    assert Identity({"texts": "a", "checkpoint": "b"}).difference({"texts": "a"}) == []
    assert Identity({"texts": "a"}).difference({"texts": "b"}) == [
        "the subtitles, captions or clips"
    ]


def test_the_same_texts_have_one_digest_whichever_way_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGVIDEO_ENV_CACHE", str(tmp_path / "cache"))
    source = load_dataset("embedded", "val")
    root = shutil.copytree(source.root, tmp_path / "data")
    assert digest_texts(load_dataset(str(root), "val")) == digest_texts(source)
    monkeypatch.setattr(loading, "INDEX_FROM_BYTES", 0)
    os.utime(root / "captions.json")
    lazy = load_dataset(str(root), "val")
    assert type(lazy.tasks).__name__ == "LazyTasks"
    assert digest_texts(lazy) == digest_texts(source)
    assert question_digests(lazy.tasks) == question_digests(source.tasks)


def test_an_edited_subtitle_file_of_a_subfolder_is_seen_in_one_process(tmp_path):
    (tmp_path / "subtitles").mkdir()
    row = (
        '[{"id": "q", "video_id": "v", "question": "Who?", "candidates": ["a", "b"], '
        '"correct_choice": 0, "duration": 60, "subtitle_path": "v.json", '
        '"starting_timestamp_for_subtitles": 0, "question_category": "x"}]'
    )
    (tmp_path / "lvb_val.json").write_text(row)
    line = '[{"start": "00:00:01.000", "end": "00:00:02.000", "line": "%s"}]'
    digests = set()
    for words in ("hello", "hullo there"):
        (tmp_path / "subtitles" / "v.json").write_text(line % words)
        digests.add(digest_texts(load_dataset(f"longvideobench:{tmp_path}", "val")))
    assert len(digests) == 2


def test_own_code_is_the_file_that_holds_it():
    assert digest_code(digest_code) == digest_code(digest_file)
    assert digest_code(BM25Grounding) == digest_code(BM25Grounding(""))
    assert digest_code(BM25Grounding) != digest_code(digest_code)
    made: dict[str, object] = {}
    exec("def act(messages): return 'a0'", made)
    other: dict[str, object] = {}
    exec("def act(messages): return 'a1'", other)
    assert digest_code(made["act"])
