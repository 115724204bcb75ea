import pytest

from agents.policies.build import build_policy, check_policy_spec
from agents.policies.scripted import best_option
from longvideo_env.config import EnvConfig
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.policy import Context, Observation
from longvideo_env.game.protocol.base import Action
from longvideo_env.schema import Question, TimedText
from longvideo_env.sync import run_immediate

QUESTION = Question(
    1, "What is Ann holding?", ("a red mug", "a newspaper", "a red boat", "a cat"), "s01e01"
)


def context(turn=1, seen="nothing", seed=0, **options):
    first = f"Question: {QUESTION.text}\na0: a cat\n\nYou are at:\nline"
    view = ("s01e01_seg01_clip_00",)
    opening = Observation(first, "opening", 5, view, lines=(TimedText("line"),))
    return Context(
        question=QUESTION,
        game=Game.from_config(EnvConfig(**options)),
        messages=[{"role": "user", "content": first}, {"role": "user", "content": seen}],
        observations=[opening, Observation(seen, "reply", 4, view, tool="look", reply=seen)],
        segments=[],
        turn=turn,
        seed=seed,
    )


def act(spec, **options):
    ctx = context(**options)
    outcome = ctx.game.protocol.parse(run_immediate(build_policy(spec).act(ctx)).text, 4).outcome
    assert isinstance(outcome, Action)
    return outcome


@pytest.mark.parametrize("spec", ["rnadom", "random:3", "scripted", "hf", "hf:", "gpt"])
def test_unknown_specs_are_refused(spec):
    with pytest.raises(SpecError, match=r"hf:PATH"):
        check_policy_spec(spec)
    with pytest.raises(SpecError):
        build_policy(spec)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [("", "expected NAME"), ("scripted:dance", "scripted:TOOL-TOOL-answer")],
)
def test_specs_without_a_meaning_are_refused_before_any_time_is_spent(spec, problem):
    for take in (check_policy_spec, build_policy):
        with pytest.raises(SpecError, match=problem):
            take(spec)


def test_scripted_follows_its_plan():
    names = [act("scripted:ground-look-answer", turn=turn).name for turn in (1, 2, 3, 4)]
    assert names == ["ground", "look", "answer", "answer"]
    assert act("scripted:answer").name == "answer"


def test_scripted_leaves_out_what_is_not_on_offer_and_answers_in_the_last_turn():
    assert act("scripted:ground-look-answer", grounding="none").name == "look"
    assert act("scripted:ground-look-answer", max_turns=1).name == "answer"
    assert act("scripted:ground-look-answer", turn=2, max_turns=2).name == "answer"


def test_best_option_goes_by_what_was_seen_not_by_the_options_shown():
    assert best_option(context(seen="She reads a newspaper")) == 1
    assert best_option(context(seen="a boat, red")) == 2


def test_ties_are_drawn_with_the_seed():
    drawn = {best_option(context(seed=seed)) for seed in range(50)}
    assert drawn == {0, 1, 2, 3}
    assert best_option(context(seed=3)) == best_option(context(seed=3))


def test_random_takes_every_action_and_answers_in_the_last_turn():
    names = {act("random", seed=seed).name for seed in range(50)}
    assert names == {"look", "ground", "answer"}
    assert {act("random", seed=seed, turn=5).name for seed in range(50)} == {"answer"}
    assert {act("random", seed=s, turn=5).argument for s in range(50)} == {"a0", "a1", "a2", "a3"}
