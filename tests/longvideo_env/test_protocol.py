import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvideo_env.config import EnvConfig
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import Action, Malformed, MalformedKind
from longvideo_env.game.protocol.reasoning import cut_reasoning
from longvideo_env.game.protocol.tags import TAG_SETS

GAMES = {tags: Game.from_config(EnvConfig(tags=tags)) for tags in TAG_SETS}
GAME = GAMES["reference"]
PROTOCOL = GAME.protocol


def outcome(text, n_options=5, protocol=PROTOCOL):
    return protocol.parse(text, n_options).outcome


@pytest.mark.parametrize(
    ("text", "kind", "argument"),
    [
        ("<search>who is there?</search>", "look", "who is there?"),
        ("<visual_query> the mug </visual_query>", "look", "the mug"),
        ("<request_grounding>", "ground", None),
        ("<request_grounding/>", "ground", None),
        ("<request_grounding />", "ground", None),
        ("<request_grounding></request_grounding>", "ground", None),
        ("<request_grounding>the kitchen</request_grounding>", "ground", "the kitchen"),
        ("I need more. <request_grounding> please", "ground", None),
        ("<answer>a3</answer>", "answer", "a3"),
        ("<ANSWER> (A3). </Answer>", "answer", "a3"),
        ("<reasoning>a2? no</reasoning>\n<answer>a0</answer>\n", "answer", "a0"),
        ("<think>I may <search>x</search></think><answer>a1</answer>", "answer", "a1"),
        ("so <answer>a4</answer> hm</think><answer>a1</answer>", "answer", "a1"),
        (
            "<think>a</think><reasoning>or <answer>a0</answer></reasoning><search>y</search>",
            "look",
            "y",
        ),
        ("<answer>a1</answer> and then <think>", "answer", "a1"),
    ],
)
def test_actions(text, kind, argument):
    assert outcome(text) == Action(kind, argument)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", MalformedKind.NO_ACTION),
        ("The answer is a3.", MalformedKind.NO_ACTION),
        ("<reasoning><answer>a3</answer></reasoning>", MalformedKind.NO_ACTION),
        ("<think>still thinking <answer>a3</answer>", MalformedKind.UNCLOSED),
        ("<answer>a3", MalformedKind.UNCLOSED),
        ("</answer>", MalformedKind.UNCLOSED),
        ("<search>who says <answer>a1</answer>?</search>", MalformedKind.UNCLOSED),
        ("<answer>a1</search>", MalformedKind.UNCLOSED),
        ("<search></search>", MalformedKind.EMPTY),
        ("<search/>", MalformedKind.EMPTY),
        ("<answer>  </answer>", MalformedKind.EMPTY),
        ("<answer>a3 or a1</answer>", MalformedKind.NOT_A_LABEL),
        ("<answer>a5</answer>", MalformedKind.UNKNOWN_OPTION),
        ("<answer>3</answer>", MalformedKind.NOT_A_LABEL),
        ("<answer>a" + "9" * 1_000 + "</answer>", MalformedKind.UNKNOWN_OPTION),
        ("<answer>a" + "9" * 10_000 + "</answer>", MalformedKind.NOT_A_LABEL),
        ("<answer>a3</answer><answer>a3</answer>", MalformedKind.SEVERAL_ACTIONS),
        ("<search>x</search><answer>a3</answer>", MalformedKind.SEVERAL_ACTIONS),
        ("<request_grounding><answer>a3</answer>", MalformedKind.SEVERAL_ACTIONS),
    ],
)
def test_malformed(text, kind):
    result = outcome(text)
    assert isinstance(result, Malformed)
    assert result.kind is kind
    assert GAME.problem_text(result).endswith(".")


def test_the_first_digit_is_not_the_answer():
    # The published reward takes the first digit: "a3 or a1" scores full there.
    assert isinstance(outcome("<answer>a3 or a1</answer>"), Malformed)


def test_actions_that_are_not_on_offer():
    game = Game.from_config(EnvConfig(grounding="none", vision="none"))
    assert game.actions == ("answer",)
    result = outcome("<search>x</search>", protocol=game.protocol)
    assert isinstance(result, Malformed)
    assert result.kind is MalformedKind.UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "has_reasoning"),
    [
        ("<reasoning>because</reasoning><answer>a1</answer>", True),
        ("<reasoning> </reasoning><answer>a1</answer>", False),
        ("<answer>a1</answer>", False),
        ("because</think><answer>a1</answer>", True),
        ("<reasoning>because<answer>a1</answer>", False),
    ],
)
def test_has_reasoning(text, has_reasoning):
    assert PROTOCOL.parse(text, 5).has_reasoning is has_reasoning


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("<reasoning>x</reasoning><search>who</search>", True),
        ("<reasoning>x <search>who</search>", False),
        ("<search>who", False),
        ("<request_grounding/>", True),
        ("<request_grounding>", False),
        ("<request_grounding>the door</request_grounding>", True),
        ("<think>a > b</think>", False),
        ("plain", False),
    ],
)
def test_complete(text, closed):
    assert PROTOCOL.complete(text) is closed


QUERIES = st.text(min_size=1).map(str.strip).filter(lambda t: t and "<" not in t)


@given(
    st.one_of(
        st.builds(Action, st.just("look"), QUERIES),
        st.builds(Action, st.just("ground"), st.none() | QUERIES),
        st.builds(Action, st.just("answer"), st.integers(0, 7).map(lambda i: f"a{i}")),
    ),
    st.sampled_from(sorted(TAG_SETS)),
    st.text().filter(lambda t: "<" not in t),
)
def test_what_is_formatted_parses_back(action, tags, reasoning):
    protocol = GAMES[tags].protocol
    text = protocol.write(action)
    assert outcome(text, 8) == outcome(text, 8, protocol) == action
    assert outcome(f"<reasoning>{reasoning}</reasoning>{text}", 8) == action
    assert PROTOCOL.complete(text)


TAGS = ["search", "visual_query", "request_grounding", "answer", "think", "reasoning"]
PIECES = st.sampled_from(
    [form.format(tag) for tag in TAGS for form in ("<{}>", "</{}>", "<{}/>")] + ["a0", "a9", "<"]
)


@given(st.lists(PIECES | st.text(max_size=5)).map("".join), st.integers(2, 8))
def test_no_text_raises_and_outcomes_are_consistent(text, n_options):
    parsed = PROTOCOL.parse(text, n_options)
    if isinstance(parsed.outcome, Action) and parsed.outcome.name == "answer":
        assert 0 <= parsed.outcome.choice < n_options
    rest, _, _ = cut_reasoning(text)
    assert len(rest) <= len(text)
    PROTOCOL.complete(text)


@given(st.lists(PIECES | st.text(max_size=5)).map("".join))
def test_neutralised_text_holds_no_action(text):
    safe = PROTOCOL.neutralise(text)
    assert not PROTOCOL.complete(safe)
    assert isinstance(outcome(safe), Malformed)
    assert PROTOCOL.neutralise(safe) == safe


def test_long_text_is_parsed_in_time():
    text = "<think>" * 100_000 + "<search>" * 100_000
    assert isinstance(outcome(text), Malformed)
