"""Actions as function calls: valid and invalid calls, and the messages to the master."""

import json

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

import longvideo_env
from longvideo_env import tool
from longvideo_env.config import EnvConfig
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import Action, Malformed, MalformedKind
from longvideo_env.game.protocol.functions import MOST_CALLS


@tool
def zoom(request, clip: int, words: int = 9, where: list[str] | None = None) -> str:
    """Zooms in.

    Args:
        clip: which clip
        words: how many words
        where: places
    """
    return f"clip {clip}"


GAME = Game.from_config(EnvConfig(protocol="functions"))
WITHOUT = Game.from_config(EnvConfig(protocol="functions", vision="none"))
OWN = Game.from_config(EnvConfig(protocol="functions", tools=[zoom]))
LOOK = {"name": "look", "arguments": {"query": "who?"}}
ANSWER = {"name": "answer", "arguments": {"answer": "a1"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def outcome(said, options=5, game=GAME):
    text = said if isinstance(said, str) else json.dumps(said)
    return game.protocol.parse(text, options).outcome


def message(*calls, content="", **more):
    wrapped = [
        {"id": f"x{i}", "type": "function", "function": call} for i, call in enumerate(calls)
    ]
    return {"role": "assistant", "content": content, "tool_calls": wrapped, **more}


@pytest.mark.parametrize(
    "said",
    [
        LOOK,
        {"name": "look", "parameters": {"query": "who?"}},
        {"name": "look", "arguments": '{"query": "who?"}'},
        message(LOOK),
        message(LOOK, content="Let me see.", reasoning_content="Hm."),
        message({"name": "look", "arguments": '{"query": "who?"}'}, content=None),
    ],
)
def test_one_call_in_every_form(said):
    assert outcome(said) == Action("look", "who?")
    assert outcome(said).arguments == {"query": "who?"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (ANSWER, Action("answer", "a1")),
        ({"name": "answer", "arguments": {"answer": "(A1)."}}, Action("answer", "a1")),
        ({"name": "ground"}, Action("ground")),
        ({"name": "ground", "arguments": ""}, Action("ground")),
        ({"name": "ground", "arguments": {"query": None}}, Action("ground")),
        ({"name": "ground", "arguments": {"query": " "}}, Action("ground")),
        ({"name": "ground", "arguments": {"query": " x "}}, Action("ground", "x")),
    ],
)
def test_other_calls(said, expected):
    assert outcome(said) == expected


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("", "no_action"),
        ("The answer is a1.", "no_action"),
        ("<answer>a1</answer>", "no_action"),
        ({"role": "assistant", "content": "a1"}, "no_action"),
        (message(), "no_action"),
        (message(LOOK, LOOK), "several_actions"),
        (message(LOOK, ANSWER), "several_actions"),
        (message(*[ANSWER] * 50), "several_actions"),
        (message({"name": "look", "arguments": '{"query": "who'}), "broken_call"),
        (message({"name": "look", "arguments": '["who?"]'}), "broken_call"),
        (message({"name": "look", "arguments": '{"query": NaN}'}), "broken_call"),
        (message({"name": "look", "arguments": "[" * 90_000}), "broken_call"),
        (message({"name": "look", "arguments": {"query": [[[[[[]] * 40]]]]}}), "wrong_arguments"),
        (message({"name": "", "arguments": {}}), "broken_call"),
        (message({"arguments": {}}), "broken_call"),
        (message("look"), "broken_call"),
        ({"tool_calls": "look"}, "broken_call"),
        ({"content": "<tool_call>{", "broken": "it is cut off"}, "broken_call"),
        ({"name": "fly", "arguments": {}}, "unknown_tool"),
        ({"name": "search", "arguments": {"query": "a tag, not a tool"}}, "unknown_tool"),
        ({"name": "look", "arguments": {}}, "wrong_arguments"),
        ({"name": "look", "arguments": {"query": 3}}, "wrong_arguments"),
        ({"name": "look", "arguments": {"query": "who?", "clip": 1}}, "wrong_arguments"),
        ({"name": "look", "arguments": {"query": " "}}, "empty"),
        ({"name": "answer"}, "wrong_arguments"),
        ({"name": "answer", "arguments": {"answer": 1}}, "wrong_arguments"),
        ({"name": "answer", "arguments": {"answer": "a1", "sure": True}}, "wrong_arguments"),
        ({"name": "answer", "arguments": {"answer": ""}}, "empty"),
        ({"name": "answer", "arguments": {"answer": "a9"}}, "unknown_option"),
        ({"name": "answer", "arguments": {"answer": "a3 or a1"}}, "not_a_label"),
    ],
)
def test_each_mistake_has_its_kind_and_a_sentence(said, kind):
    problem = outcome(said)
    assert isinstance(problem, Malformed)
    assert problem.kind.value == kind
    text = GAME.malformed_text(problem, 3, 5)
    assert text.startswith("Your reply does not count: ")
    assert text.endswith(" after your reasoning. You have 3 turns left.")
    assert len(text) < 500


def test_a_tool_without_an_agent_is_not_available():
    assert outcome(LOOK, game=WITHOUT).kind is MalformedKind.UNAVAILABLE
    assert [s["function"]["name"] for s in WITHOUT.schemas(5)] == ["ground", "answer"]


def test_typed_arguments():
    call = {"name": "zoom", "arguments": {"clip": 3, "where": ["left"]}}
    assert outcome(call, game=OWN).arguments == {"clip": 3, "words": 9, "where": ["left"]}
    call["arguments"] |= {"words": None, "where": None}  # as strict schemas have what is left out
    assert outcome(call, game=OWN).arguments == {"clip": 3, "words": 9, "where": None}
    assert outcome({"name": "zoom", "arguments": {"clip": None}}, game=OWN).kind.value == (
        "wrong_arguments"
    )
    bad = outcome({"name": "zoom", "arguments": {"clip": "the third"}}, game=OWN)
    assert bad.kind is MalformedKind.WRONG_ARGUMENTS
    said = OWN.problem_text(bad)
    assert "clip: input should be a valid integer" in said
    assert 'It takes {"clip": "which clip", "words": "how many words"' in said


def test_an_answer_in_words():
    call = {"name": "answer", "arguments": {"answer": " a red mug "}}
    assert outcome(call, 0) == Action("answer", "a red mug")
    (*_, answer) = GAME.schemas(0)
    parameter = answer["function"]["parameters"]["properties"]["answer"]
    assert parameter == {"type": "string", "description": "your answer, in a few words"}


def test_schemas_say_what_the_tools_are():
    look, ground, answer = (schema["function"] for schema in GAME.schemas(3))
    assert look["description"].startswith("Asks the vision agent")
    assert look["parameters"]["required"] == ["query"]
    # An optional parameter can be left out. Chat templates do not know `anyOf`.
    described = {"type": "string", "description": "what to look for"}
    assert ground["parameters"]["properties"]["query"] == described
    assert ground["parameters"]["required"] == []
    assert answer["parameters"]["properties"]["answer"]["enum"] == ["a0", "a1", "a2"]
    zoom_ = OWN.schemas(3)[-2]["function"]["parameters"]["properties"]
    assert zoom_["where"]["type"] == "array"
    assert GAME.schemas(3) is GAME.schemas(3)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (LOOK, False),
        (message(LOOK, reasoning_content="Who?"), True),
        (message(LOOK, content="I look."), True),
        ("I think it is a1.", False),
    ],
)
def test_reasoning(said, expected):
    text = said if isinstance(said, str) else json.dumps(said)
    assert GAME.protocol.parse(text, 5).has_reasoning is expected


@given(st.text() | JSON.map(json.dumps))
def test_no_text_raises(text):
    parsed = GAME.protocol.parse(text, 5)
    if isinstance(parsed.outcome, Malformed):
        assert GAME.malformed_text(parsed.outcome, 3, 5)
    whole(GAME.protocol.said(text, 1))


@given(JSON, JSON, st.text(), JSON, st.integers(0, 12))
def test_no_message_raises(name, arguments, content, more, n):
    call = {"function": {"name": name, "arguments": arguments}, "id": more}
    text = json.dumps({"content": content, "tool_calls": [call] * n, "reasoning_content": more})
    GAME.protocol.parse(text, 5)
    whole(GAME.protocol.said(text, 1))


def whole(said):
    """A conversation has only parts that a server or a template accepts."""
    json.dumps(said, allow_nan=False).encode()
    said["content"].encode("utf-8", "surrogatepass")
    calls = said.get("tool_calls", [])
    assert len(calls) <= MOST_CALLS
    assert len({call["id"] for call in calls}) == len(calls)
    for call in calls:
        assert call["function"]["name"]
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
        call["function"]["arguments"].encode()
    heard = GAME.protocol.heard(said, "seen")
    assert [m["role"] for m in heard] == (["tool"] * len(calls) or ["user"])
    assert [m.get("tool_call_id") for m in heard] == ([c["id"] for c in calls] or [None])


WORDS = st.text(min_size=1).map(str.strip).filter(bool)


@given(
    st.builds(lambda q: Action("look", q, {"query": q}), WORDS)
    | st.builds(lambda q: Action("ground", q, {"query": q}), WORDS)
    | st.just(Action("ground"))
    | st.builds(lambda i: Action("answer", f"a{i}"), st.integers(0, 4)),
    st.none() | WORDS,
)
def test_what_is_written_is_read(action, reasoning):
    text = GAME.protocol.write(action, reasoning)
    parsed = GAME.protocol.parse(text, 5)
    assert parsed.outcome == action
    assert parsed.has_reasoning is (reasoning is not None)


def test_arguments_that_were_only_text_are_written_as_arguments():
    assert json.loads(GAME.protocol.write(Action("look", "the mug"))) == {
        "name": "look",
        "arguments": {"query": "the mug"},
    }


def test_ids_of_a_server_are_kept_and_others_are_made():
    (call,) = GAME.protocol.said(json.dumps(message(LOOK)), 3)["tool_calls"]
    assert call["id"] == "x0"
    (call,) = GAME.protocol.said(json.dumps(LOOK), 3)["tool_calls"]
    assert call["id"] == "call00300"
    assert len(call["id"]) == 9  # Mistral's templates want nine letters or digits


@pytest.mark.parametrize("mark", ["<tool_call>", "</tool_response>", "<think>", "<function=look>"])
def test_marks_from_outside_are_harmless(mark):
    assert mark not in GAME.protocol.neutralise(f"Ann: {mark} hi")
    assert GAME.protocol.neutralise("a < b <toolbox>") == "a < b <toolbox>"


def test_no_tool_may_be_called_answer():
    with pytest.raises(SpecError, match="answer"):
        Game.from_config(EnvConfig(protocol="functions", tools=[named_answer]))


@tool(name="answer")
def named_answer(request) -> str:
    """Answers."""
    return "x"


def test_an_episode_in_gym(monkeypatch):
    env = gym.make("LongTVQA-v0", protocol="functions", max_turns=7)
    text, info = env.reset(seed=3)
    assert [s["function"]["name"] for s in info["tools"]] == ["look", "ground", "answer"]
    assert "<" not in text
    said = [message(LOOK), message(LOOK, ANSWER), {"name": "ground"}, "hm", ANSWER]
    told = [env.step(one if isinstance(one, str) else json.dumps(one)) for one in said]
    kinds = [(info["action"], info["malformed"]) for *_, info in told]
    assert kinds == [
        ("look", None),
        (None, "several_actions"),
        ("ground", None),
        (None, "no_action"),
        ("answer", None),
    ]
    assert [terminated for _, _, terminated, _, _ in told] == [False] * 4 + [True]
    messages = told[-1][4]["messages"]
    roles = "system user assistant tool assistant tool tool assistant tool assistant user assistant"
    assert [m["role"] for m in messages] == roles.split()
    answered = {m["tool_call_id"] for m in messages if m["role"] == "tool"}
    made = [c["id"] for m in messages[:-1] for c in m.get("tool_calls", ())]
    assert answered == set(made)
    env.close()


def test_sampled_actions_play(monkeypatch):
    env = gym.make("LongTVQA-v0", protocol="functions", max_turns=20, render_mode="ansi")
    env.reset(seed=0)
    env.action_space.seed(1)
    over = False
    while not over:
        *_, over, truncated, info = env.step(env.action_space.sample())
        assert info["malformed"] is None
        over = over or truncated
    transcript = env.render()
    assert 'answer(answer="a' in transcript
    assert transcript.count("─ Turn") == info["turn"]


@pytest.mark.parametrize("policy", ["random", "scripted:ground-look-answer", "teacher:mini:0:0"])
def test_policies_that_read_fields_play_alike_under_both(policy, tmp_path):
    options = {"dataset": "mini", "split": "test", "limit": 12, "progress": False}
    tags = longvideo_env.evaluate(policy, out=tmp_path / "tags", **options)
    options |= {"out": tmp_path / "calls", "protocol": "functions"}
    calls = longvideo_env.evaluate(policy, **options)
    assert calls.accuracy == tags.accuracy
    for one, other in zip(tags.episodes, calls.episodes, strict=True):
        assert (one.protocol, other.protocol) == ("tags", "functions")
        assert [(t.action, t.argument, t.shown) for t in one.turns] == [
            (t.action, t.argument, t.shown) for t in other.turns
        ]
        assert one.reward == other.reward
        assert other.segments[0].role == "tools"


def test_a_function_that_takes_tools(tmp_path):
    def ask(messages, tools):
        names = [schema["function"]["name"] for schema in tools]
        assert names == ["look", "ground", "answer"]
        return message(LOOK if len(messages) < 3 else ANSWER)

    options = {"dataset": "mini", "split": "test", "limit": 4, "progress": False}
    result = longvideo_env.evaluate(ask, out=tmp_path, protocol="functions", **options)
    assert result.summary["n_failed"] == 0
    assert {len(t.turns) for t in result.episodes} == {2}
