"""Variants of a dataset: one property is changed, and the rest is unchanged."""

import pickle

import pytest

from longvideo_env import load_dataset
from longvideo_env.datasets.altered import ASKED_INSTEAD, NONE_OF_THE_OTHERS, VARIANTS, alter
from longvideo_env.errors import SpecError
from longvideo_env.records.identity import digest_questions, digest_texts, question_digests

MINI = "mini:videos=3"


def variant(name, dataset=MINI, split="test"):
    return load_dataset(f"variant:{name}@{dataset}", split)


@pytest.fixture(scope="module")
def full():
    return load_dataset(MINI, "test")


@pytest.mark.parametrize("name", VARIANTS)
def test_ids_stay_and_the_identity_is_another(full, name):
    found = variant(name)
    assert list(found.qids) == list(full.qids)
    assert found is variant(name)
    assert [t.question.video_id for t in found] == [t.question.video_id for t in full]
    parts = [(digest_questions(question_digests(d.tasks)), digest_texts(d)) for d in (full, found)]
    assert parts[0] != parts[1]
    again = pickle.loads(pickle.dumps(found))
    assert [t.question for t in again] == [t.question for t in found]


def test_what_is_changed_and_what_is_not(full):
    for before, after in zip(full, variant("no-question"), strict=True):
        assert after.question.text == ASKED_INSTEAD
        assert (after.question.options, after.gold) == (before.question.options, before.gold)
    for before, after in zip(full, variant("none-of-the-others"), strict=True):
        right = before.gold.answer
        assert after.gold == before.gold
        assert after.question.options[right] == NONE_OF_THE_OTHERS
        assert [o for i, o in enumerate(after.question.options) if i != right] == [
            o for i, o in enumerate(before.question.options) if i != right
        ]
    for before, after in zip(full, variant("no-options"), strict=True):
        assert after.question.options == ()
        assert after.gold.answer is None
        assert after.gold.text == before.question.options[before.gold.answer]


def test_videos_without_subtitles(full):
    silent = variant("no-subtitles")
    for video_id, video in full.videos.items():
        other = silent.videos[video_id]
        assert other.clip_ids == video.clip_ids
        assert not any(clip.subtitles for clip in other.clips)
        assert [c.captions for c in other.clips] == [c.captions for c in video.clips]
        assert silent.videos[video_id] is other
    assert silent.coverage.n_with_subtitles == 0


def test_questions_that_would_become_wrong_are_left_out_and_counted():
    rows = [
        {"qid": 1, "question": "Q?", "a0": "x", "a1": "y", "answer": 0, "video": "v"},
        {"qid": 2, "question": "R?", "a0": "x", "a1": "x", "a2": "z", "answer": 0, "video": "v"},
        {"qid": 3, "question": "S?", "a0": "x", "a1": "All of the above", "answer": 0,
         "video": "v"},
        {"qid": 4, "question": "T?", "a0": "x", "a1": "y", "video": "v"},
    ]  # fmt: skip
    found = alter(load_dataset(rows, "val"), "none-of-the-others")
    assert [task.qid for task in found] == [1]
    assert found.coverage.n_left_out == 3
    assert "an option that says the same as the right one" in found.coverage.lines()[0]


def test_what_is_no_variant_is_refused():
    with pytest.raises(SpecError, match="Did you mean 'no-question'"):
        variant("no-questions")
    for spec in ("variant:no-question", "variant:no-question@"):
        with pytest.raises(SpecError, match="expected variant:NAME@DATASET"):
            load_dataset(spec, "val")
