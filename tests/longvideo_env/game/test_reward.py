import pytest

from longvideo_env import EnvConfig, Episode, load_dataset
from longvideo_env.drivers.rollout import play_of
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.reward import Play, parse_reward, score
from longvideo_env.schema import Gold
from longvideo_env.sync import run_blocking
from longvideo_env.tools.registry import build_toolbox


def test_presets_and_overrides():
    assert parse_reward("paper") == {"answer": 1.0, "validity": 0.1}
    assert parse_reward("paper,validity=0.2,tool_calls=-0.05") == {
        "answer": 1.0,
        "validity": 0.2,
        "tool_calls": -0.05,
    }
    assert parse_reward("reference,reasoning_block=0") == {"answer": 1.0, "answer_block": 0.2}


@pytest.mark.parametrize("spec", ["", "papre", "paper,answr=1", "paper,answer", "paper,answer=x"])
def test_unknown_specs_are_refused(spec):
    with pytest.raises(SpecError):
        parse_reward(spec)


def plays(dataset, task, replies, **options):
    config = EnvConfig(dataset="embedded", **options)
    toolbox = build_toolbox(config, dataset)
    episode = Episode(task.question, dataset.video(task), Game.from_config(config))
    episode.receive(toolbox.call_blocking(episode.start()))
    for reply in replies:
        if episode.status is None:
            move = episode.reply(reply)
            if hasattr(move, "record"):
                episode.receive(run_blocking(toolbox.call(move)))
    return score(play_of(episode), task.gold, parse_reward(config.reward))


@pytest.mark.parametrize(("preset", "most"), [("paper", 1.1), ("reference", 1.4)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_gold_scores_the_maximum_and_blank_the_minimum(preset, most, split):
    dataset = load_dataset("embedded", split)
    for task in dataset:
        gold = f"<reasoning>seen</reasoning><answer>a{task.gold.answer}</answer>"
        best = plays(dataset, task, [gold], reward=preset)
        assert best.reward == pytest.approx(most)
        assert best.correct is True
        worst = plays(dataset, task, [""] * 5, reward=preset)
        assert worst.reward == 0.0
        assert worst.correct is False
        wrong = (task.gold.answer + 1) % len(task.question.options)
        other = plays(dataset, task, [f"<answer>a{wrong}</answer>"], reward=preset)
        assert 0.0 < other.reward < most - 0.9


def test_validity_is_the_mean_over_turns_and_tools_can_cost():
    dataset = load_dataset("embedded", "train")
    task = dataset[0]
    replies = ["<search>x</search>", "nothing", "<request_grounding/>", "<answer>a0</answer>"]
    result = plays(dataset, task, replies, reward="paper,tool_calls=-0.05")
    assert result.terms["validity"] == 0.75
    assert result.terms["tool_calls"] == 2.0
    assert result.reward == pytest.approx(result.terms["answer"] + 0.075 - 0.1)


def play(**fields):
    return Play(**({"status": "answered", "choice": 0, "parsed": (), "turns": ()} | fields))


def test_a_failed_episode_has_no_reward():
    result = score(play(status="failed"), Gold(answer=0, clip_id="c"), parse_reward("paper"))
    assert result.reward is None
    assert result.correct is None
    assert result.grounded is None
    assert result.terms == {}


def test_without_a_gold_answer_there_is_no_reward_and_no_verdict():
    result = score(play(visited=("c",)), Gold(clip_id="c"), parse_reward("paper"))
    assert result.reward is None
    assert result.correct is None
    assert result.grounded is True
    assert result.grounded_first is False


def test_grounding_is_a_term_that_is_off_by_default():
    gold = Gold(answer=0, clip_id="c", clues=(("c", 0.0, 1.0), ("d", 2.0, 3.0)))
    seen, unseen = play(visited=("b", "d")), play(visited=("b",))
    assert "grounding" not in score(seen, gold, parse_reward("paper")).terms
    weights = parse_reward("paper,grounding=0.5")
    assert score(seen, gold, weights).reward == pytest.approx(1.5)
    assert score(unseen, gold, weights).reward == pytest.approx(1.0)
    assert score(seen, gold, weights).grounded is True
    assert score(unseen, gold, weights).grounded is False
    assert score(seen, Gold(answer=0), weights).terms["grounding"] == 0.0
