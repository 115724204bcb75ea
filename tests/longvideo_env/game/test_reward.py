import asyncio
import time

import pytest

from agents.policies.build import build_policy
from longvideo_env import (
    EnvConfig,
    Episode,
    LongTVQAEnv,
    RolloutEngine,
    Trajectory,
    load_dataset,
)
from longvideo_env.drivers.rollout import play_of
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.reward import Play, parse_reward, score, score_async
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


# Your own terms.


def thrift(play, gold):
    """Minus one point per turn."""
    return -float(len(play.turns))


async def thrift_async(play, gold):
    await asyncio.sleep(0)
    return thrift(play, gold)


def left_out(play, gold):
    return None


def breaks(play, gold):
    raise ZeroDivisionError("by zero")


async def breaks_async(play, gold):
    await asyncio.sleep(0)
    raise ZeroDivisionError("by zero")


RIGHT = Gold(answer=0, clip_id="c")


def test_a_mapping_starts_from_a_preset_and_takes_functions():
    reward = parse_reward({"preset": "paper", "validity": 0.2, thrift: 0.5})
    assert dict(reward) == {"answer": 1.0, "validity": 0.2, "thrift": 0.5}
    assert reward.own == ("thrift",)
    assert reward.functions["thrift"] is thrift
    assert dict(parse_reward({"answer": 1, thrift: 0})) == {"answer": 1.0}
    assert dict(parse_reward({thrift: 1})) == {"thrift": 1.0}


@pytest.mark.parametrize(
    "spec", [{"preset": "rich"}, {"answr": 1}, {"answer": "x"}, {"answer": float("nan")},
             {thrift: float("inf")}, {thrift: None}, 3, ["paper"], None]
)  # fmt: skip
def test_mappings_without_a_meaning_are_refused(spec):
    with pytest.raises(SpecError):
        parse_reward(spec)


@pytest.mark.parametrize("term", [thrift, thrift_async])
def test_an_own_term_counts_sync_or_async(term):
    reward = parse_reward({"preset": "paper", term: 0.5})
    played = play(turns=("one", "two"))
    for result in (
        score(played, RIGHT, reward),
        asyncio.run(score_async(played, RIGHT, reward)),
    ):
        assert result.terms == {"answer": 1.0, "validity": 0.0, term.__name__: -2.0}
        assert result.reward == pytest.approx(1.0 - 1.0)
        assert result.error is None


def test_one_that_is_named_is_the_same(tmp_path, monkeypatch):
    (tmp_path / "my_terms.py").write_text("def thrift(play, gold):\n    return -2.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    reward = parse_reward("paper,my_terms:thrift=0.5")
    assert reward == {"answer": 1.0, "validity": 0.1, "my_terms:thrift": 0.5}
    assert score(play(), RIGHT, reward).reward == pytest.approx(0.0)


def test_none_leaves_a_term_out():
    result = score(play(), RIGHT, parse_reward({"preset": "paper", left_out: 5.0}))
    assert "left_out" not in result.terms
    assert result.reward == 1.0
    assert result.error is None


def _returns(value):
    def odd(play, gold):
        return value

    return odd


@pytest.mark.parametrize(
    ("term", "problem"),
    [
        (breaks, "reward term 'breaks': ZeroDivisionError: by zero"),
        (breaks_async, "reward term 'breaks_async': ZeroDivisionError: by zero"),
        (_returns(float("nan")), "reward term 'odd': ValueError: returned nan"),
        (_returns(float("-inf")), "reward term 'odd': ValueError: returned -inf"),
        (_returns("much"), "reward term 'odd': ValueError"),
        (_returns([1.0]), "reward term 'odd': TypeError"),
    ],
)
def test_a_term_that_goes_wrong_makes_the_reward_invalid_and_never_0(term, problem):
    result = score(play(visited=("c",)), RIGHT, parse_reward({"preset": "paper", term: 1.0}))
    assert result.reward is None
    assert result.terms == {}
    assert result.error is not None
    assert result.error.startswith(problem)
    assert (result.correct, result.grounded) == (True, True), "the facts stand"


def test_an_invalid_reward_is_kept_and_said_by_both_drivers():
    reward = {"preset": "paper", breaks: 1.0}
    env = LongTVQAEnv(dataset="embedded", reward=reward)
    env.reset(seed=0)
    _, value, terminated, _, info = env.step("<answer>a0</answer>")
    assert (value, terminated) == (0.0, True)
    assert info["reward_valid"] is False
    assert info["is_success"] is not None
    assert info["error"] == "reward term 'breaks': ZeroDivisionError: by zero"
    config = EnvConfig(dataset="embedded", reward=reward)
    dataset = load_dataset("embedded", "train")
    engine = RolloutEngine(
        dataset=dataset, config=config, toolbox=build_toolbox(config, dataset),
        policy=build_policy("scripted:answer"), policy_spec="scripted:answer",
    )  # fmt: skip
    played = run_blocking(engine.play(dataset.tasks[0]))
    assert (played.status, played.reward) == ("answered", None)
    assert played.reward_error == "reward term 'breaks': ZeroDivisionError: by zero"
    assert played.correct is not None
    assert Trajectory.from_json(played.to_json()) == played


def test_a_blocking_term_does_not_hold_others_up():
    def slow(play, gold):
        time.sleep(0.2)
        return 1.0

    reward = parse_reward({slow: 1.0})

    async def many():
        return await asyncio.gather(*(score_async(play(), RIGHT, reward) for _ in range(4)))

    start = time.perf_counter()
    assert [result.reward for result in asyncio.run(many())] == [1.0] * 4
    assert time.perf_counter() - start < 4 * 0.2


def test_an_own_term_is_not_asked_of_a_failed_episode():
    asked = []

    def spy(play, gold):
        asked.append(play)
        return 1.0

    reward = parse_reward({spy: 1.0})
    assert score(play(status="failed"), RIGHT, reward).reward is None
    assert asked == []
    score(play(replies=("<answer>a0</answer>",)), RIGHT, reward)
    assert asked[0].replies == ("<answer>a0</answer>",)
