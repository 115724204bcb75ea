r"""Actions as function calls: each tool is offered as a JSON schema, and `answer` is a tool, too.

A reply is JSON: an assistant message in the OpenAI format, or a single call.

    {"name": "look", "arguments": {"query": "Who holds the mug?"}}
    {"content": "", "reasoning_content": "...", "tool_calls": [
        {"type": "function", "function": {"name": "answer", "arguments": "{\"answer\": \"a0\"}"}}]}

Servers return such a message. For a model with a tokenizer, `agents.generation` parses it from the
sampled tokens and puts calls that cannot be parsed under `broken`. Text that is not JSON is a reply
without a call.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longvideo_env.errors import SpecError
from longvideo_env.game.protocol.answers import AnswerForm
from longvideo_env.game.protocol.arguments import values_of
from longvideo_env.game.protocol.base import (
    ANSWER,
    TAG_SETS,
    Action,
    Malformed,
    MalformedKind,
    Message,
    Outcome,
    ParsedReply,
    TagSet,
)
from longvideo_env.game.protocol.reasoning import REASONING_TAGS
from longvideo_env.tools.tool import Tool

MOST_CALLS = 8
"""A reply with more calls stays in the conversation as text, because each call needs a result."""

_SHOWN = 80
"""Maximum characters of a reply that a message quotes."""

_DEEPEST = 32
"""Maximum nesting of arguments."""

_MARKS = ("tool_calls?", "tool_responses?", "tools", "function", "parameter", *REASONING_TAGS)
_ANY_MARK = re.compile(rf"<(?=[/|]?(?:{'|'.join(_MARKS)})\b)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as written.

    Attributes:
        name: The tool's name. Empty if it cannot be parsed.
        arguments: The arguments, or None if they are not a JSON object.
        raw: The arguments as written.
        call_id: Its id, or empty.
    """

    name: str
    arguments: Mapping[str, Any] | None
    raw: str
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A reply as written.

    Attributes:
        content: The text that is neither reasoning nor a call.
        reasoning: Reasoning that was written separately.
        calls: The calls.
        broken: Why calls could not be parsed, or None.
    """

    content: str = ""
    reasoning: str = ""
    calls: tuple[WrittenCall, ...] = ()
    broken: str | None = None


class FunctionProtocol:
    """Parses and writes actions as function calls.

    Args:
        tools: All tools of the game.
        offered: Names of the tools that the master may use.
        tags: The tag set, for texts that contain tags.
        answers: How answers are written.

    Raises:
        SpecError: A tool is called `answer`.
    """

    name = "functions"
    continues = False

    def __init__(
        self,
        tools: Sequence[Tool],
        offered: Sequence[str],
        tags: TagSet = TAG_SETS["reference"],
        answers: AnswerForm | None = None,
    ) -> None:
        self.tags = tags
        self.answers = answers or AnswerForm()
        self.offered = tuple(offered)
        self._tools = {tool.name: tool for tool in tools}
        for name in (ANSWER, tags.answer):
            if name in self._tools:
                raise SpecError(f"no tool may be named {name!r}. Fix: rename the tool.")

    def parse(self, text: str, options: int | Sequence[str]) -> ParsedReply:
        """Parse a reply. Never raises.

        Args:
            text: The reply as JSON; see the module's docstring.
            options: The options as shown, or their number. Without options, the answer is free
                text.
        """
        written = read_written(text)
        beside = written.content if written.calls else ""
        has_reasoning = bool(written.reasoning.strip() or beside.strip())
        return ParsedReply(self._outcome(written, options), has_reasoning)

    def said(self, text: str, turn: int) -> Message:
        """A reply as a message of the conversation.

        Calls that servers and chat templates reject stay as text: arguments that are not JSON, a
        call without a name, dozens of calls.
        """
        written = read_written(text)
        message: Message = {"role": "assistant", "content": written.content}
        if written.reasoning:
            message["reasoning_content"] = written.reasoning
        whole = all(call.name and call.arguments is not None for call in written.calls)
        if written.broken is not None or not whole or len(written.calls) > MOST_CALLS:
            message["content"] = text
        elif written.calls:
            given = [call.call_id for call in written.calls]
            keep = all(given) and len(set(given)) == len(given)
            message["tool_calls"] = [
                {
                    "id": call.call_id if keep else f"call{turn:03d}{i:02d}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": _dump(call.arguments)},
                }
                for i, call in enumerate(written.calls)
            ]
        return message

    def heard(self, said: Message, text: str) -> list[Message]:
        """An observation: a tool message for each call, or a user message if there was no call."""
        calls = said.get("tool_calls")
        if not calls:
            return [{"role": "user", "content": text}]
        return [
            {
                "role": "tool",
                "content": text,
                "tool_call_id": call["id"],
                "name": call["function"]["name"],
            }
            for call in calls
        ]

    def schemas(
        self, n_options: int, purpose: str = "", argument: str = ""
    ) -> tuple[dict[str, Any], ...]:
        """The offered tools; `answer` is last."""
        item: dict[str, Any] = {"type": "string"}
        if argument:
            item["description"] = argument
        if n_options:
            item["enum"] = [self.answers.label(i) for i in range(n_options)]
        answer = {"type": "object", "properties": {ANSWER: item}, "required": [ANSWER]}
        tools = (self._tools[name] for name in self.offered)
        return (
            *(_schema(tool.name, tool.purpose, _plain(tool.schema)) for tool in tools),
            _schema(self.tags.answer, purpose, answer),
        )

    def complete(self, text: str) -> bool:
        """Always False: the model ends its turn itself, and may write several calls in it."""
        return False

    @property
    def endings(self) -> list[str]:
        """None."""
        return []

    @property
    def stop_strings(self) -> list[str]:
        """None."""
        return []

    def tag(self, name: str) -> str:
        """A tool's name. A game may rename the answer."""
        return self.tags.answer if name == ANSWER else name

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """Write an action: a single call, or a message with reasoning."""
        values = {ANSWER: self.answers.written(action)}
        if action.name != ANSWER:
            values = self._arguments(action)
        if reasoning is None:
            return _dump({"name": self.tag(action.name), "arguments": values})
        function = {"name": self.tag(action.name), "arguments": _dump(values)}
        message = {"role": "assistant", "content": "", "reasoning_content": reasoning}
        return _dump(message | {"tool_calls": [{"type": "function", "function": function}]})

    def neutralise(self, text: str) -> str:
        """Escape marks of calls and reasoning in text from outside: `&lt;tool_call>`."""
        return _ANY_MARK.sub("&lt;", text) if "<" in text else text

    def _arguments(self, action: Action) -> dict[str, Any]:
        values = dict(action.arguments)
        if not values and action.argument:
            read = values_of(self._tools[action.name], action.argument)
            values = read if isinstance(read, dict) else {}
        return {name: value for name, value in values.items() if value is not None}

    def _outcome(self, written: Written, options: int | Sequence[str]) -> Outcome:
        if written.broken is not None:
            said = written.content[:_SHOWN]
            return Malformed(
                MalformedKind.BROKEN_CALL, {"said": said, "problem": written.broken[:_SHOWN]}
            )
        if not written.calls:
            return Malformed(MalformedKind.NO_ACTION)
        if len(written.calls) > 1:
            names = tuple(call.name for call in written.calls[:5])
            details = {"n": len(written.calls), "tags": names}
            return Malformed(MalformedKind.SEVERAL_ACTIONS, details)
        return self.read_call(written.calls[0], options)

    def read_call(self, call: WrittenCall, options: int | Sequence[str]) -> Outcome:
        """Parse one call into an action, or into what is wrong with it."""
        details: dict[str, Any] = {"tag": call.name, "said": call.raw[:_SHOWN]}
        if not call.name:
            details["problem"] = "it names no tool"
            return Malformed(MalformedKind.BROKEN_CALL, details)
        if call.arguments is None:
            details["problem"] = "its arguments are not a JSON object"
            return Malformed(MalformedKind.BROKEN_CALL, details)
        if call.name == self.tags.answer:
            return self._answered(call.arguments, details, options)
        tool = self._tools.get(call.name)
        if tool is None:
            return Malformed(MalformedKind.UNKNOWN_TOOL, details)
        if call.name not in self.offered:
            return Malformed(MalformedKind.UNAVAILABLE, details)
        # Strict schemas have no optional arguments: null means left out.
        given = {k: v for k, v in call.arguments.items() if v is not None or k in tool.required}
        text = tool.takes_text
        if text and isinstance(given.get(text), str):
            given[text] = given[text].strip()
            if not given[text] and text not in tool.required:
                del given[text]
        checked = tool.check(given)
        if isinstance(checked, str):
            details |= {"problem": checked, "expected": _expected(tool)}
            return Malformed(MalformedKind.WRONG_ARGUMENTS, details)
        if text in tool.required and not given[text]:
            return Malformed(MalformedKind.EMPTY, details)
        plain = given.get(text) if text else (call.raw if given else None)
        return Action(tool.name, plain, checked)

    def _answered(
        self, values: Mapping[str, Any], details: dict[str, Any], options: int | Sequence[str]
    ) -> Outcome:
        text = values.get(ANSWER)
        if set(values) != {ANSWER} or not isinstance(text, str):
            problem = "it is not one text"
            if ANSWER not in values:
                problem = f"{ANSWER}: field required"
            elif len(values) > 1:
                problem = "it holds more than that"
            details |= {"problem": problem, "expected": _dump({ANSWER: "..."})}
            return Malformed(MalformedKind.WRONG_ARGUMENTS, details)
        if not text.strip():
            return Malformed(MalformedKind.EMPTY, details)
        return self.answers.read(text.strip(), options)


def read_written(text: str) -> Written:
    """Split a reply: a message, one call, or text."""
    try:
        value = _load(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not ({"name", "tool_calls", "content"} & set(value)):
        return Written(content=text)
    if "tool_calls" not in value and "name" in value:
        return Written(calls=(written_call(value),))
    calls = value.get("tool_calls") or []
    broken = value.get("broken")
    if not isinstance(calls, list):
        calls, broken = [], "the calls are not a list"
    return Written(
        content=_text(value.get("content")),
        reasoning=_text(value.get("reasoning_content") or value.get("reasoning")),
        calls=tuple(map(written_call, calls)),
        broken=None if broken is None else str(broken),
    )


def written_call(value: Any) -> WrittenCall:
    """A call from any JSON value."""
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict):
        return WrittenCall("", None, str(value))
    given = function.get("arguments", function.get("parameters"))
    raw = given if isinstance(given, str) else _dump({} if given is None else given)
    try:
        arguments = _load(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        arguments = None
    name = _text(function.get("name")).strip()
    call_id = _text(value.get("id"))
    return WrittenCall(name, arguments if isinstance(arguments, dict) else None, raw, call_id)


def _expected(tool: Tool) -> str:
    """The expected call of a tool, as JSON with a description for each value."""
    return _dump({name: tool.described(name) for name in tool.parameters})


def _schema(name: str, purpose: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": name, "description": purpose, "parameters": dict(parameters)}
    return {"type": "function", "function": function}


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's schema with only the keywords that chat templates know.

    Optional values may be null.
    """
    properties = {}
    for name, item in schema.get("properties", {}).items():
        kinds = [kind for kind in item.get("anyOf", ()) if kind.get("type") != "null"]
        plain = {key: value for key, value in item.items() if key != "anyOf"}
        plain |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
        if plain.get("default", "") is None:
            del plain["default"]
        properties[name] = plain
    rest = {key: schema[key] for key in ("$defs",) if key in schema}
    required = list(schema.get("required", ()))
    return {"type": "object", "properties": properties, "required": required, **rest}


def _load(text: str) -> Any:
    """Parse JSON that can be written again: no NaN, no lone surrogates, not too deeply nested.

    Raises:
        ValueError: The text is not such JSON.
        RecursionError: It is nested far too deeply.
    """
    value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
    if level:
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
    if "\\ud" in text.lower():
        value = json.loads(_dump(value).encode("utf-8", "replace"))
    return value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
