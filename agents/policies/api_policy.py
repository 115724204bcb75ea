"""`openai:MODEL[@ENDPOINT]` as master: chat messages, one reply per turn.

The assistant's turns stay in the conversation. `<think>` blocks of earlier turns are not sent, as
makers of reasoning models advise (`think=keep` sends them); the trajectory keeps them. Generation
stops at an action's closing tag. Servers cut off the tag, so it is added again. If the server
stopped inside the reasoning because it mentions an action, the request is repeated without stop
sequences, and the reply is cut after its action.

With `protocol=functions` the tools are sent as JSON schemas. A reply is the server's message, kept
as JSON. Results are sent as messages with the role `tool`. There are no stop sequences.

If the master sees frames (`frames=N`), a message with frames is sent as a list of parts: its text,
then the images. Servers take no images in tool messages, so those are sent in a user message after
it.

Options: `detail` of images (`low`, `high`, `auto`), `stop` (false for servers without stop
sequences), `think` (`drop` or `keep`), `tool_choice` (`auto` or `required`), `strict` (true makes
the server enforce the schemas), `stream` (true for servers that only stream). Sampling is set by
the generation settings, as for every model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.api.agent import parse_api_spec, used
from agents.api.client import ChatReply, client_for
from agents.api.endpoints import load_endpoint
from agents.api.images import image_part
from agents.api.usage import Usage
from agents.generation.settings import STOPS_TAKEN, GenerationSettings
from longvideo_env.errors import (
    ContextTooLongError,
    EndpointError,
    PolicyError,
    SpecError,
    ToolError,
)
from longvideo_env.game.policy import Codec, Context, FinishReason, Message, Reply, TextCodec
from longvideo_env.game.protocol.base import ReplyProtocol
from longvideo_env.game.protocol.reasoning import cut_reasoning, without_thinking
from longvideo_env.schema import FrameRef


@dataclass(frozen=True)
class MasterOptions:
    """Options of a spec."""

    stop: bool = True
    think: str = "drop"
    tool_choice: str = "auto"
    strict: bool = False
    stream: bool = False
    detail: str = "auto"

    def __post_init__(self) -> None:
        if self.detail not in ("low", "high", "auto"):
            raise SpecError(f"expected detail=low, high or auto, got {self.detail!r}.")
        if self.think not in ("drop", "keep"):
            raise SpecError(f"expected think=drop or think=keep, got {self.think!r}.")
        if self.tool_choice not in ("auto", "required"):
            raise SpecError(
                f"expected tool_choice=auto or tool_choice=required, got {self.tool_choice!r}."
            )


class ApiPolicy:
    """See the module's docstring.

    Args:
        argument: The text after `openai:` in the spec.
        settings: Generation settings.

    Raises:
        SpecError: The spec or its endpoint is invalid.
        MissingExtraError: The extra `api` is not installed.
    """

    codec: Codec

    def __init__(self, argument: str, settings: GenerationSettings) -> None:
        spec = parse_api_spec(argument)
        self.codec = TextCodec()
        self.model = spec.model
        self.options = spec.spec.read(MasterOptions)
        self._settings = settings
        self._client = client_for(load_endpoint(spec.endpoint))
        self._resolution: int | None = None  # None: reads text only

    def see(self, resolution: int) -> None:
        """Send the frames of messages as images.

        The server decides whether the model takes them.
        """
        self._resolution = resolution

    async def act(self, context: Context, /) -> Reply:
        """Request the reply of one turn.

        Raises:
            PolicyError: The endpoint gave no reply.
        """
        try:
            return await (self._call(context) if context.tools else self._write(context))
        except ContextTooLongError:
            return Reply("", finish="context")
        except (EndpointError, ToolError) as error:
            raise PolicyError(str(error)) from error

    async def aclose(self) -> None:
        """Does nothing: connections are closed with the event loop."""

    async def _call(self, context: Context) -> Reply:
        """A reply with function calls: the server's message as JSON."""
        tools = map(strict, context.tools) if self.options.strict else context.tools
        offered = {"tools": list(tools), "tool_choice": self.options.tool_choice}
        keep = self.options.think == "keep"
        messages = self._sent(context, keep_thinking=keep)
        reply = await self._ask(messages, self._sampling(context) | offered)
        finish: FinishReason = "length" if reply.finish == "length" else "end_of_turn"
        return Reply(as_message(reply), finish=finish, usage=used(self.model, reply.usage))

    async def _write(self, context: Context) -> Reply:
        """A reply in text, up to its action."""
        messages = self._sent(context, keep_thinking=self.options.think == "keep")
        sampling = self._sampling(context)
        protocol = context.game.protocol
        # The answer's tag is last, so it is always included.
        stops = protocol.stop_strings[-STOPS_TAKEN:] if self.options.stop else []
        reply = await self._ask(messages, sampling | ({"stop": stops} if stops else {}))
        usage = Usage() + reply.usage
        text = closed(reply, stops, protocol)
        if text is None:
            reply = await self._ask(messages, sampling)
            usage += reply.usage
            text = reply.text
        text = cut_behind_action(text, protocol)
        return Reply(text, finish=_finish(reply, text, protocol), usage=used(self.model, usage))

    async def _ask(
        self, messages: Sequence[Mapping[str, Any]], sampling: Mapping[str, Any]
    ) -> ChatReply:
        n_images = sum(isinstance(m["content"], list) and len(m["content"]) - 1 for m in messages)
        return await self._client.chat(
            self.model, messages, role="master", extra=sampling, n_images=n_images
        )

    def _sent(self, context: Context, *, keep_thinking: bool) -> list[dict[str, Any]]:
        messages = sent_messages(context.messages, keep_thinking=keep_thinking)
        if self._resolution is None:
            return messages
        side, detail = self._resolution, self.options.detail
        return with_images(messages, lambda path: image_part(path, side, detail).part)

    def _sampling(self, context: Context) -> dict[str, Any]:
        settings = self._settings
        sampling: dict[str, Any] = {
            "max_tokens": settings.max_turn_tokens,
            "temperature": settings.temperature,
        }
        if settings.temperature > 0:
            sampling["seed"] = context.seed
        if settings.top_p < 1:
            sampling["top_p"] = settings.top_p
        if settings.top_k > 0:
            sampling["top_k"] = settings.top_k
        if self.options.stream:
            sampling |= {"stream": True, "stream_options": {"include_usage": True}}
        return sampling


def sent_messages(messages: Sequence[Message], *, keep_thinking: bool) -> list[dict[str, Any]]:
    """The conversation in the form sent to the server."""
    sent = []
    for message in messages:
        copied: dict[str, Any] = dict(message)
        if message["role"] == "assistant" and not keep_thinking:
            copied["content"] = without_thinking(message["content"])
            copied.pop("reasoning_content", None)
        copied.pop("name", None)  # the name of a tool; the id identifies the call
        sent.append(copied)
    return sent


def with_images(
    messages: Sequence[dict[str, Any]], part_of: Callable[[Path], Any]
) -> list[dict[str, Any]]:
    """Messages with frames as parts of their content.

    Args:
        messages: Result of `sent_messages`, with references to frames.
        part_of: Makes the message part of a frame's file.

    Raises:
        ToolError: A file cannot be read or is not an image.
    """
    sent: list[dict[str, Any]] = []
    for message in messages:
        message = dict(message)
        frames: Sequence[FrameRef] = message.pop("frames", ())
        images = [part_of(frame.file) for frame in frames]
        sent.append(message)
        if images and message["role"] == "tool":
            said = {"type": "text", "text": "The frames that the tool's result speaks of:"}
            sent.append({"role": "user", "content": [said, *images]})
        elif images:
            message["content"] = [{"type": "text", "text": message["content"]}, *images]
    return sent


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A strict schema: all arguments are required, and optional ones may be null.

    Source: OpenAI's "Structured Outputs". vLLM uses the same flag.
    """
    function = schema["function"]
    parameters = function["parameters"]
    properties = {
        name: item if name in parameters["required"] else {"anyOf": [item, {"type": "null"}]}
        for name, item in parameters["properties"].items()
    }
    parameters = {**parameters, "properties": properties, "required": list(properties)}
    parameters["additionalProperties"] = False
    return {**schema, "function": {**function, "parameters": parameters, "strict": True}}


def as_message(reply: ChatReply) -> str:
    """A reply as an assistant message in the OpenAI format, as JSON."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [_plain(call) for call in reply.tool_calls]
    return json.dumps(message, ensure_ascii=False)


def _plain(call: Any) -> Any:
    """A call without extra fields of streams and servers."""
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = {name: call["function"].get(name) for name in ("name", "arguments")}
    return {"id": call.get("id"), "type": "function", "function": function}


def closed(reply: ChatReply, stops: Sequence[str], protocol: ReplyProtocol) -> str | None:
    """A reply with the closing tag at which the server stopped. None if that was in reasoning."""
    text = reply.text
    if reply.finish != "stop" or not stops or protocol.complete(text):
        return text
    outside, _, open_form = cut_reasoning(text)
    if open_form or (reply.reasoning and not text.strip()):
        return None
    for stop in stops:
        if stop.replace("</", "<").lower() in outside.lower():
            return text + stop
    return text


def cut_behind_action(text: str, protocol: ReplyProtocol) -> str:
    """A reply up to the end of its first action. The rest would not have been generated."""
    if not protocol.complete(text):
        return text
    for mark in re.finditer("|".join(map(re.escape, protocol.endings)), text, re.IGNORECASE):
        if protocol.complete(text[: mark.end()]):
            return text[: mark.end()]
    return text


def _finish(reply: ChatReply, text: str, protocol: ReplyProtocol) -> FinishReason:
    if protocol.complete(text):
        return "stop"
    return "length" if reply.finish == "length" else "end_of_turn"
