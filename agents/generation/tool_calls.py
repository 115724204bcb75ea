"""Tools with a tokenizer's chat template: how calls are written, parsed, ended and answered.

All of this is found by rendering a conversation with one call. Sampled tokens are not changed by
parsing a reply. A result is appended as the text that the template writes after a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.generation.reply_templates import known_templates
from longvideo_env.errors import SpecError
from longvideo_env.game.protocol.base import ANSWER, Message

if TYPE_CHECKING:
    from agents.generation.chat import ChatCodec

# Placeholders for texts when only the text around them matters. No template writes them.
_SAID, _RESULT, _THOUGHT = "zqsaidqz", "zqresultqz", "zqthoughtqz"

_USER: Mapping[str, Any] = {"role": "user", "content": "."}
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""Exceptions of transformers' parsers for replies that do not match their template."""


class ToolTemplate:
    """How a chat template handles tools.

    Args:
        codec: Renders messages.
        schemas: JSON schemas of the tools.
        name: Name of the template in messages.
        special: Matches the tokenizer's special tokens, or None.

    Attributes:
        end: The special token that the template writes after calls; empty if none.
        end_id: Its id, or the end of sequence if there is none.
        thinks_in_turns: Whether reasoning ends with the end-of-turn token, so that this token does
            not end a reply (gpt-oss).

    Raises:
        SpecError: The template leaves out tools, calls or results, or its calls cannot be parsed.
    """

    def __init__(
        self,
        codec: ChatCodec,
        schemas: Sequence[Mapping[str, Any]],
        name: str,
        special: re.Pattern[str] | None,
    ) -> None:
        self._codec = codec
        self._schemas: list[Any] = list(schemas)
        self._name = name
        call = [_USER, _calling([ANSWER]), _result()]
        try:
            whole = codec.render(call, schemas)
            alone = codec.render(call[:2], schemas, generate=False)
            opened = codec.render(call[:1], schemas)
        except SpecError as error:
            raise self._refusal(str(error)) from error
        self._check(opened, whole)
        self._response_template = self._find_reader(opened, whole)
        self._closing = _behind(alone, 1).rstrip()
        self.end, self.end_id = self._find_end(_behind(whole, 1), special)
        self.thinks_in_turns = self._ends_inside()

    def read(self, text: str, body: str) -> dict[str, Any]:
        """Parse a reply into an assistant message in the OpenAI format.

        Args:
            text: The whole reply, as sampled.
            body: The reply without the token that ended it.

        Returns:
            `role`, `content`, `reasoning_content`, `tool_calls`; `broken` says why a call cannot be
            parsed.
        """
        message = self._read(text)
        if "tool_calls" not in message:
            # Models end turns in more ways than the response template covers.
            other = self._read(body + self.end)
            return other if "tool_calls" in other else message
        return message

    def write(self, message: Message) -> str:
        """Render a reply with calls, without the token that ends it.

        Raises:
            SpecError: The template refuses it.
        """
        said: dict[str, Any] = {**message, "tool_calls": [_given(c) for c in message["tool_calls"]]}
        if "reasoning_content" in message:
            said["thinking"] = message["reasoning_content"]  # the name in some templates
        opened = self._codec.render([_USER], self._schemas)
        text = self._codec.render([_USER, said], self._schemas, generate=False)
        written = text[_same(opened, text) :].rstrip()
        return written.removesuffix(self.end)

    def suffix(self, results: Sequence[Message]) -> str:
        """The text that the template writes after calls, up to the start of the next reply.

        Args:
            results: The tool messages, one for each call.

        Raises:
            SpecError: The template refuses them.
        """
        try:
            return self._suffix(results)
        except SpecError:
            if len(results) == 1:
                raise
            return self._suffix(results[:1])  # some allow only one call per turn

    def _suffix(self, results: Sequence[Message]) -> str:
        names = [message["name"] for message in results]
        ids = [message["tool_call_id"] for message in results]
        whole = self._codec.render([_USER, _calling(names, ids), *results], self._schemas)
        after = _behind(whole, len(names))
        if not self.end:
            return after.removeprefix(self._closing)
        return after[after.index(self.end) + len(self.end) :]

    def _read(self, text: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        try:
            read = self._parse(self._response_template, text, self._codec.generation_prompt)
            calls = [_named(call) for call in read.get("tool_calls") or ()]
        except _UNREADABLE as error:
            said = " ".join(str(error).split()) or type(error).__name__
            return message | {"content": text, "broken": said}
        reasoning = read.get("reasoning_content") or read.get("thinking")
        message["content"] = read.get("content") or ""
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        return message

    def _parse(self, template: Mapping[str, Any], text: str, prefix: str) -> Mapping[str, Any]:
        read: Mapping[str, Any] = self._codec.tokenizer.parse_response(
            text, schema=dict(template), prefix=prefix, tools=self._schemas
        )
        return read

    def _check(self, opened: str, whole: str) -> None:
        names = [schema["function"]["name"] for schema in self._schemas]
        without = self._codec.render([_USER])
        if not all(opened.count(name) > without.count(name) for name in names):
            raise self._refusal("it leaves out the list of tools")
        if _SAID not in whole:
            raise self._refusal("it leaves out the calls")
        if _RESULT not in whole:
            raise self._refusal("it leaves out what tools reply")

    def _find_reader(self, opened: str, whole: str) -> Mapping[str, Any]:
        """Find the response template that parses the chat template's calls."""
        start = _same(opened, whole)
        wanted = [_named(call) for call in _calling([ANSWER])["tool_calls"]]
        for template in known_templates(self._codec.tokenizer):
            try:
                read = self._parse(template, whole[start:], whole[:start])
                found = [_named(call) for call in read.get("tool_calls") or ()]
            except _UNREADABLE:
                continue
            if [call["function"] for call in found] == [call["function"] for call in wanted]:
                return template
        raise self._refusal("no response template is known that reads its calls")

    def _find_end(self, after: str, special: re.Pattern[str] | None) -> tuple[str, int]:
        """The special token that ends calls, or the one that starts the text after them."""
        found = [] if special is None else list(special.finditer(self._closing))
        end = found[-1][0] if found and found[-1].end() == len(self._closing) else ""
        if not end and special is not None:
            following = special.match(after.removeprefix(self._closing).lstrip())
            end = following[0] if following else ""
        ids = self._codec.encode(end)
        if len(ids) == 1:
            return end, ids[0]
        eos = self._codec.tokenizer.eos_token_id
        return "", self._codec.end_of_turn_id if eos is None else int(eos)

    def _ends_inside(self) -> bool:
        """Whether an end-of-turn token comes between reasoning and a call."""
        thought = {"reasoning_content": _THOUGHT, "thinking": _THOUGHT}
        messages = [_USER, _calling([ANSWER]) | thought, _result()]
        try:
            text = self._codec.render(messages, self._schemas)
        except SpecError:
            return False
        if _THOUGHT not in text:
            return False
        between = text.partition(_THOUGHT)[2].partition(_SAID)[0]
        return self._codec.decode([self._codec.end_of_turn_id]) in between

    def _refusal(self, problem: str) -> SpecError:
        return SpecError(
            f"{self._name} does not support tools: {problem}. Fix: use protocol=tags, or set a "
            "`chat_template` and a `response_template` that support tools."
        )


def _calling(names: Sequence[str], ids: Sequence[str] = ("call00000",)) -> dict[str, Any]:
    calls = [
        {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": {ANSWER: _SAID}},
        }
        for name, call_id in zip(names, ids, strict=True)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _result() -> dict[str, Any]:
    return {"role": "tool", "name": ANSWER, "tool_call_id": "call00000", "content": _RESULT}


def _given(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call for templates: arguments as a dict."""
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}


def _same(one: str, other: str) -> int:
    """Length of the common prefix of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _behind(text: str, n: int) -> str:
    """The text after the n-th argument."""
    return text.split(_SAID, n)[n]


def _named(call: Any) -> dict[str, Any]:
    """A call in the OpenAI format: arguments as JSON text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return {"type": "function", "function": {"name": "", "arguments": str(function)}}
    given = function.get("arguments", function.get("parameters"))
    given = {} if given is None else given
    written = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return {"type": "function", "function": {"name": function.get("name"), "arguments": written}}
