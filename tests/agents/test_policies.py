import pytest

from agents.policies.build import best_option, build_policy, check_policy_spec
from longvideo_env.errors import SpecError
from longvideo_env.game.policy import Context
from longvideo_env.game.protocol.tags import Action, parse
from longvideo_env.game.rules import ActionKind, Rules
from longvideo_env.schema import Question
from longvideo_env.sync import run_immediate

QUESTION = Question(
    1, "What is Ann holding?", ("a red mug", "a newspaper", "a red boat", "a cat"), "s01e01"
)


def context(turn=1, seen="nothing", seed=0, **rules):
    first = f"Question: {QUESTION.text}\na0: a cat\n\nYou are at:\nline"
    return Context(
        question=QUESTION,
        rules=Rules(**rules),
        messages=[{"role": "user", "content": first}, {"role": "user", "content": seen}],
        segments=[],
        turn=turn,
        seed=seed,
    )


def act(spec, **options):
    ctx = context(**options)
    outcome = parse(run_immediate(build_policy(spec).act(ctx)).text, 4, ctx.rules.actions).outcome
    assert isinstance(outcome, Action)
    return outcome


@pytest.mark.parametrize("spec", ["", "rnadom", "scripted", "scripted:dance", "hf", "hf:", "gpt"])
def test_unknown_specs_are_refused(spec):
    with pytest.raises(SpecError, match=r"hf:PATH"):
        check_policy_spec(spec)
    with pytest.raises(SpecError):
        build_policy(spec)


def test_scripted_follows_its_plan():
    kinds = [act("scripted:ground-look-answer", turn=turn).kind for turn in (1, 2, 3, 4)]
    assert kinds == [ActionKind.GROUND, ActionKind.LOOK, ActionKind.ANSWER, ActionKind.ANSWER]
    assert act("scripted:answer").kind is ActionKind.ANSWER


def test_scripted_leaves_out_what_is_not_on_offer_and_answers_in_the_last_turn():
    assert act("scripted:ground-look-answer", can_ground=False).kind is ActionKind.LOOK
    assert act("scripted:ground-look-answer", max_turns=1).kind is ActionKind.ANSWER
    assert act("scripted:ground-look-answer", turn=2, max_turns=2).kind is ActionKind.ANSWER


def test_best_option_goes_by_what_was_seen_not_by_the_options_shown():
    assert best_option(context(seen="She reads a newspaper")) == 1
    assert best_option(context(seen="a boat, red")) == 2


def test_ties_are_drawn_with_the_seed():
    drawn = {best_option(context(seed=seed)) for seed in range(50)}
    assert drawn == {0, 1, 2, 3}
    assert best_option(context(seed=3)) == best_option(context(seed=3))


def test_random_takes_every_action_and_answers_in_the_last_turn():
    kinds = {act("random", seed=seed).kind for seed in range(50)}
    assert kinds == set(ActionKind)
    assert {act("random", seed=seed, turn=5).kind for seed in range(50)} == {ActionKind.ANSWER}
    assert {act("random", seed=s, turn=5).argument for s in range(50)} == {"a0", "a1", "a2", "a3"}
