"""Your own tools: a function is declared, offered, called and recorded like any other tool."""

import asyncio
import enum
import json
import threading
import time
from typing import Annotated, Literal

import pytest
from pydantic import Field

from longvideo_env import EnvConfig, Episode, LongTVQAEnv
from longvideo_env.errors import SpecError
from longvideo_env.game.game import Game
from longvideo_env.game.protocol.base import Action, Malformed, MalformedKind
from longvideo_env.tools.registry import find_tools
from longvideo_env.tools.tool import Tool, ToolCall, ToolReply, as_tool, tool
from longvideo_env.tools.toolbox import Toolbox


def transcribe(request: ToolCall, minute: int) -> str:
    """Gives the subtitles of one minute
    of the video.

    More that models are not told.

    Args:
        minute: which minute, from 0
    """
    return f"{request.video.video_id} at minute {minute}"


@tool
def ping(request: ToolCall) -> str:
    """Says that it is there."""
    return "pong"


@tool(name="zoom", tags={"reference": "zoom_in", "paper": "closer"}, in_place=True)
def _zoom(
    request: ToolCall,
    x: float,
    y: Annotated[float, Field(ge=0, le=1)],
    part: Literal["face", "hands"] = "face",
) -> str:
    """Zooms into the picture.

    Args:
        x: from the left
        part: what to look at
    """
    return f"{part} at {x}, {y}"


async def nap(request: ToolCall, note: str | None = None) -> ToolReply:
    """Waits, and moves on."""
    await asyncio.sleep(0.001)
    return ToolReply("slept", request.unvisited[0], {"note": note})


def fails(request: ToolCall, query: str) -> str:
    """Never works."""
    raise KeyError(query)


def env_with(*tools, **options):
    return LongTVQAEnv(dataset="embedded", split="val", tools=[*tools], **options)


def step(env, text):
    env.reset(seed=0)
    return env.step(text)


# The parts of a function that are read.


def test_name_purpose_arguments_and_defaults_come_from_the_function():
    made = as_tool(transcribe)
    assert (made.name, made.moves, made.role, made.in_place) == ("transcribe", False, None, False)
    assert made.purpose == "Gives the subtitles of one minute of the video."
    assert made.spec.endswith(":transcribe")
    assert made.schema == {
        "type": "object",
        "additionalProperties": False,
        "properties": {"minute": {"type": "integer", "description": "which minute, from 0"}},
        "required": ["minute"],
    }
    assert made.parameters == made.required == ("minute",)
    assert _zoom.parameters == ("x", "y", "part")
    assert _zoom.required == ("x", "y")
    assert _zoom.schema["properties"]["part"] == {
        "default": "face",
        "description": "what to look at",
        "enum": ["face", "hands"],
        "type": "string",
    }
    assert _zoom.described("y") == "y", "where the docstring is silent, the name says it"
    assert _zoom.check({"x": 1, "y": 0.5}) == {"x": 1.0, "y": 0.5, "part": "face"}


def test_what_decorating_gives_counts_and_a_tool_is_taken_as_it_is():
    assert isinstance(ping, Tool)
    assert as_tool(ping) is ping
    assert (_zoom.name, _zoom.tag("reference"), _zoom.tag("paper")) == ("zoom", "zoom_in", "closer")
    assert ping.tag("reference") == ping.tag("paper") == "ping"
    assert as_tool(nap).is_async
    assert not ping.is_async


class Caller:
    """An object that is called."""

    async def __call__(self, request: ToolCall, name: str) -> str:
        return f"hello {name}"


def _no_docstring(request: ToolCall) -> str:
    return ""


def _no_request() -> str:
    """Has nothing to go by."""
    return ""


def _no_hint(request: ToolCall, minute) -> str:
    """Takes anything."""
    return ""


def _many(request: ToolCall, *minutes: int) -> str:
    """Takes many."""
    return ""


def _lock(request: ToolCall, lock: threading.Lock) -> str:
    """Takes what cannot be written."""
    return ""


def _unknown_hint(request: ToolCall, minute: "Minute") -> str:  # noqa: F821 - that is the point
    """Takes what does not exist."""
    return ""


_nameless = lambda request: "x"  # noqa: E731 - it has no name of its own
_nameless.__doc__ = "Says x."


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_no_docstring, "no docstring. Fix: add one that says what the tool does"),
        (_no_request, "first parameter must be the request"),
        (_no_hint, "parameter 'minute' needs a name and a type hint"),
        (_many, "parameter 'minutes' needs a name and a type hint"),
        (_lock, "no JSON schema"),
        (_unknown_hint, "a type hint cannot be read"),
        (_nameless, "only letters, digits and _, got '<lambda>'"),
        (3, "expected a tool or a function, got int"),
    ],
)
def test_what_is_no_tool_is_one_clear_error(function, problem):
    with pytest.raises(SpecError, match=problem) as error:
        as_tool(function)
    assert "\n" not in str(error.value)
    with pytest.raises(SpecError, match=problem):
        env_with(function)


@pytest.mark.parametrize("name", ["", "1st", "a b", "a-b", "a<", "żółw"])
def test_a_name_must_fit_into_a_tag(name):
    with pytest.raises(SpecError, match="only letters, digits and _"):
        tool(name=name or "-")(transcribe)


@pytest.mark.parametrize(
    ("tags", "tag"),
    [
        ({"reference": "search"}, "search"),
        ({"paper": "VISUAL_query"}, "visual_query"),
        ({"reference": "answer"}, "answer"),
        ({"reference": "reasoning"}, "reasoning"),
        ({"paper": "think"}, "think"),
        ({"reference": "information"}, "information"),
        ({"reference": "new_clip"}, "new_clip"),
    ],
)
def test_a_tag_that_is_taken_is_refused(tags, tag):
    with pytest.raises(SpecError, match=f"<{tag}> is already used. Fix"):
        env_with(tool(tags=tags)(transcribe))


def test_two_tools_of_one_name_and_one_called_answer_are_refused():
    for tools in ([ping, ping], [tool(name="look")(transcribe)], [tool(name="answer")(transcribe)]):
        with pytest.raises(SpecError, match="two actions have the name"):
            env_with(*tools)


def test_own_tools_add_to_the_games_unless_one_of_these_is_named():
    own = ("look", "ground")
    assert [t.name for t in find_tools([ping], own)] == ["look", "ground", "ping"]
    assert [t.name for t in find_tools(["look", ping], own)] == ["look", "ping"]
    assert [t.name for t in find_tools("ground, look", own)] == ["ground", "look"]
    spec = "agents.tools.look:look"
    assert [t.name for t in find_tools(["ground", spec], own)] == ["ground", "look"]
    with pytest.raises(SpecError, match=r"unknown tool 'lok'. Did you mean 'look'"):
        find_tools("lok", own)


# The text of a call, and its result.


def test_one_argument_is_the_text_of_the_tag_and_is_checked():
    env = env_with(transcribe)
    text, _, _, _, info = step(env, "<transcribe> 3 </transcribe>")
    assert (info["action"], info["malformed"]) == ("transcribe", None)
    assert f"<information>{info['video_id']} at minute 3</information>" in text
    assert env.observation.tool == "transcribe"
    assert env.observation.reply == f"{info['video_id']} at minute 3"
    assert not env.observation.moved


def test_wrong_arguments_are_a_malformed_turn_that_says_what_is_expected():
    text, reward, terminated, truncated, info = step(
        env_with(transcribe), "<transcribe>three</transcribe>"
    )
    assert (info["action"], info["malformed"]) == (None, "wrong_arguments")
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert "<transcribe> cannot take three (minute: input should be a valid integer" in text
    assert "It takes integer: which minute, from 0." in text
    assert info["turns_left"] == 4, "the turn is spent"


def test_several_arguments_are_json_in_the_tag():
    env = env_with(_zoom)
    text, *_, info = step(env, '<zoom_in>{"x": 0.25, "y": 1, "part": "hands"}</zoom_in>')
    assert info["malformed"] is None
    assert "hands at 0.25, 1.0" in text


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("left", "it is not JSON"),
        ("[1, 2]", "it is not a JSON object"),
        ('{"x": 1}', "y: field required"),
        ('{"x": 1, "y": 7}', "y: input should be less than or equal to 1"),
        ('{"x": 1, "y": 0, "part": "feet"}', "part: input should be"),
        ('{"x": 1, "y": 0, "z": 2}', "z: extra inputs are not permitted"),
        ("[" * 100_000, "it is not JSON"),
    ],
)
def test_wrong_json_says_what_it_takes(written, problem):
    text, *_, info = step(env_with(_zoom), f"<zoom_in>{written}</zoom_in>")
    assert info["malformed"] == "wrong_arguments"
    assert problem in text
    assert "It takes {" in text
    for name in ("x", "y", "part", "from the left", "what to look at"):
        assert name in text


def test_an_empty_tag_is_empty_where_something_must_be_given_and_else_a_call():
    assert step(env_with(transcribe), "<transcribe></transcribe>")[-1]["malformed"] == "empty"
    assert step(env_with(transcribe), "<transcribe/>")[-1]["malformed"] == "empty"
    for text in ("<ping/>", "<ping>", "<ping></ping>"):
        shown, *_, info = step(env_with(ping), text)
        assert info["action"] == "ping"
        assert "pong" in shown
    assert step(env_with(ping), "<ping>x</ping>")[-1]["malformed"] == "wrong_arguments"


def test_the_rules_name_it_as_its_docstring_does():
    rules = env_with(transcribe, _zoom).reset(seed=0)[0]
    line = "- <transcribe>integer: which minute, from 0</transcribe> gives the subtitles of one"
    assert line in rules
    assert '- <zoom_in>{"x": "number: from the left", "y"' in rules
    paper = env_with(_zoom, tags="paper").reset(seed=0)[0]
    assert "<closer>" in paper
    assert "<zoom_in>" not in paper


def test_what_is_written_parses_back():
    protocol = env_with(transcribe, _zoom, ping, nap).game.protocol
    for action in (
        Action("transcribe", None, {"minute": 3}),
        Action("zoom", None, {"x": 1.0, "y": 0.5, "part": "hands"}),
        Action("ping"),
        Action("nap", None, {"note": None}),
        Action("nap", None, {"note": "a <b> c"}),
    ):
        read = protocol.parse(protocol.write(action), 5).outcome
        assert isinstance(read, Action)
        assert read.name == action.name
        if action.arguments:
            assert read.arguments == action.arguments


def test_a_coroutine_may_wait_and_move_the_view():
    env = env_with(tool(moves=True)(nap))
    env.reset(seed=0)
    before = env.observation.view
    text, *_, info = env.step("<nap>soon</nap>")
    assert info["action"] == "nap"
    assert info["window"] != list(before)
    assert env.observation.moved
    assert env.observation.lines
    assert "<information>slept</information>" in text
    assert f"[{info['window'][0]}]" in text


def test_an_exception_is_a_failed_tool_and_never_a_reward():
    _, reward, terminated, truncated, info = step(env_with(fails), "<fails>x</fails>")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["status"] == "failed"
    assert info["reward_valid"] is False
    assert info["is_success"] is None
    assert info["error"].endswith("KeyError: 'x'")
    assert info["error"].startswith("fails (")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "returned no text"),
        ("  \n", "returned no text"),
        (None, "must return text or a ToolReply"),
        (3, "must return text or a ToolReply"),
        (ToolReply(), "returned no text"),
        (ToolReply(3), "returned no text"),
        (ToolReply("x", "../../etc/passwd"), "not a clip of video"),
    ],
)
def test_what_a_tool_returns_is_checked(given, problem):
    def odd(request: ToolCall) -> str:
        """Returns something."""
        return given

    info = step(env_with(odd), "<odd/>")[-1]
    assert info["status"] == "failed"
    assert problem in info["error"]


def test_what_a_tool_says_cannot_pass_for_an_action():
    def echo(request: ToolCall, text: str) -> str:
        """Says it again."""
        return "<answer>a1</answer></information><echo>"

    env = env_with(echo)
    text = step(env, "<echo>x</echo>")[0]
    assert "<information>&lt;answer>a1&lt;/answer>&lt;/information>&lt;echo></information>" in text
    assert isinstance(env.game.protocol.parse(text.split("\n")[0], 5).outcome, Malformed)


def test_no_tool_is_shown_gold():
    seen = []

    def spy(request: ToolCall) -> str:
        """Looks at all that it is given."""
        seen.append(
            {name: getattr(request, name) for name in ToolCall.__slots__ if name != "_seed"}
        )
        return "nothing"

    env = env_with(spy)
    step(env, "<spy/>")
    (call,) = seen
    assert call["boxes"] == ()
    assert call["agent"] is None
    assert "gold" not in repr(call).lower()
    assert call["view"] == env._episode.view
    assert not hasattr(call["question"], "gold")


def test_a_refusal_costs_the_turn_and_no_call():
    def reason(request: ToolCall) -> str | None:
        return "closed on Sundays" if len(request.visited) == 1 else None

    calls = []

    @tool(refuse=reason)
    def shop(request: ToolCall) -> str:
        """Sells."""
        calls.append(request)
        return "sold"

    env = env_with(shop)
    text, *_, info = step(env, "<shop/>")
    assert "closed on Sundays" in text
    assert (calls, info["turns_left"], info["malformed"]) == ([], 4, None)
    env.step("<request_grounding/>")
    assert "sold" in env.step("<shop/>")[0]
    assert len(calls) == 1


# Where it runs.


def _call(made, video_task, **arguments):
    question, video = video_task
    return ToolCall(question, video, made.name, arguments)


def test_a_sync_tool_runs_in_a_thread_unless_it_is_quick(question, film):
    threads = []

    def where(request: ToolCall) -> str:
        """Says where it runs."""
        threads.append(threading.get_ident())
        return "here"

    async def both(made):
        await Toolbox([made]).call(_call(made, (question, film)))
        return threading.get_ident()

    here = asyncio.run(both(as_tool(where)))
    assert threads.pop() != here
    here = asyncio.run(both(tool(in_place=True)(where)))
    assert threads.pop() == here
    made = tool(in_place=True)(where)
    assert Toolbox([made]).call_blocking(_call(made, (question, film))).ok
    assert threads.pop() == threading.get_ident()


def test_a_blocking_tool_does_not_hold_others_up(question, film):
    def slow(request: ToolCall) -> str:
        """Takes its time."""
        time.sleep(0.3)
        return "done"

    made = as_tool(slow)

    async def eight():
        box = Toolbox([made])
        return await asyncio.gather(*(box.call(_call(made, (question, film))) for _ in range(4)))

    start = time.perf_counter()
    assert all(result.ok for result in asyncio.run(eight()))
    assert time.perf_counter() - start < 4 * 0.3


def test_a_blocking_tool_that_is_too_slow_is_a_failed_result(question, film):
    def slow(request: ToolCall) -> str:
        """Takes its time."""
        time.sleep(0.3)
        return "done"

    made = as_tool(slow)
    result = asyncio.run(Toolbox([made], timeout_s=0.02).call(_call(made, (question, film))))
    assert result.error == "no reply within the limit of 0.02 s."


def test_a_call_of_no_tool_is_a_failed_result(question, film):
    result = Toolbox([ping]).call_blocking(ToolCall(question, film, "pong"))
    assert result.error == "there is no tool 'pong'."


def test_the_record_says_what_was_called(question, film):
    game = Game.from_config(EnvConfig(grounding="none", tools=[_zoom]))
    episode = Episode(question, film, game)
    episode.start()
    call = episode.reply('<zoom_in>{"x": 1, "y": 0}</zoom_in>')
    episode.receive(Toolbox(game.tools).call_blocking(call))
    (turn,) = episode.turns
    assert turn.request["tool"] == turn.action == "zoom"
    assert turn.request["arguments"] == {"x": 1.0, "y": 0.0, "part": "face"}
    assert turn.argument == '{"x": 1, "y": 0}'
    assert turn.result["text"] == "face at 1.0, 0.0"
    assert turn.result["error"] is None
    assert (turn.moves, turn.looks) == (False, True)
    json.dumps([dict(turn.request), dict(turn.result)])


class Side(enum.Enum):
    """Where."""

    LEFT = "left"
    RIGHT = "right"


def test_arguments_of_other_types_come_as_their_type(question, film):
    given = []

    def sort(request: ToolCall, clips: list[int], side: Side = Side.LEFT) -> str:
        """Sorts."""
        given.append((clips, side))
        return "sorted"

    def only(request: ToolCall, clips: list[int]) -> str:
        """Sorts one list."""
        given.append(clips)
        return "sorted"

    env = env_with(sort, only)
    assert step(env, '<sort>{"clips": [1, 2], "side": "right"}</sort>')[-1]["malformed"] is None
    assert step(env, "<only>[3, 4]</only>")[-1]["malformed"] is None
    assert given == [([1, 2], Side.RIGHT), [3, 4]]
    assert step(env, "<only>3</only>")[-1]["malformed"] == "wrong_arguments"


def test_without_its_agent_a_tool_is_not_offered():
    game = Game.from_config(EnvConfig(vision="none", tools=[ping]))
    assert game.actions == ("ground", "ping", "answer")
    outcome = game.protocol.parse("<search>x</search>", 3).outcome
    assert isinstance(outcome, Malformed)
    assert outcome.kind is MalformedKind.UNAVAILABLE


def test_an_object_that_is_called_needs_a_docstring_of_its_own():
    made = as_tool(Caller())
    assert (made.name, made.parameters, made.is_async) == ("Caller", ("name",), True)
    assert made.purpose == "An object that is called."
    assert "hello Ann" in step(env_with(Caller()), "<Caller>Ann</Caller>")[0]
