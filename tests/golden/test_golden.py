"""Texts and scores of episodes equal the stored ones, to the byte."""

import json
import sys
from pathlib import Path

import gymnasium as gym
import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))
import play as golden  # noqa: E402 - a script of this folder

sys.path.remove(str(FOLDER))


@pytest.mark.parametrize("variant", golden.VARIANTS)
def test_real_questions(shared_data, variant):
    known = json.loads((FOLDER / "tvqa.json").read_text())[variant]
    now = golden.record(str(shared_data / "tvqa_plus_dev"), "val", variant)
    assert [qid for qid in known if now.get(qid) != known[qid]] == []
    assert len(known) == golden.VARIANTS[variant][0]


def test_mini_word_for_word():
    env = gym.make("LongTVQA-v0", dataset="mini", split="test", disable_env_checker=True)
    for task, known in zip(
        env.unwrapped.dataset.tasks, json.loads((FOLDER / "mini.json").read_text()), strict=False
    ):
        assert json.loads(json.dumps(golden.play(env, task.qid, task.question.text))) == known
