"""`openai:MODEL[@ENDPOINT]` as master: the conversation as chat messages, one reply a turn.

The assistant's own turns stay in the conversation. `<think>` blocks of earlier turns are left out
of what is sent, as makers of reasoning models advise (`think=keep` sends them); the trajectory
keeps them. Generation stops at an action's closing tag. Servers cut the tag off with the text
behind it, so it is put back; where the server stopped inside the reasoning, because that mentions
an action, it is asked again without stopping, and the reply is cut behind its action.

Options: `stop` (false for servers that know no stop sequences), `think` (`drop` or `keep`). How
replies are drawn is said by the generation settings, as for every model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.api.agent import parse_api_spec, used
from agents.api.client import ChatReply, client_for
from agents.api.endpoints import load_endpoint
from agents.api.usage import Usage
from agents.generation.settings import GenerationSettings
from longvideo_env.errors import ContextTooLongError, EndpointError, PolicyError, SpecError
from longvideo_env.game.policy import Codec, Context, FinishReason, Message, Reply, TextCodec
from longvideo_env.game.protocol.base import ReplyProtocol
from longvideo_env.game.protocol.reasoning import cut_reasoning, without_thinking

STOPS_TAKEN = 4
"""How many stop sequences servers take. The answer's is the last, and always among them."""


@dataclass(frozen=True)
class MasterOptions:
    """What a spec may set."""

    stop: bool = True
    think: str = "drop"

    def __post_init__(self) -> None:
        if self.think not in ("drop", "keep"):
            raise SpecError(f"expected think=drop or think=keep, got {self.think!r}.")


class ApiPolicy:
    """See the module's docstring.

    Args:
        argument: What follows `openai:` in its spec.
        settings: How replies are drawn.

    Raises:
        SpecError: The spec or its endpoint has no meaning.
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

    async def act(self, context: Context, /) -> Reply:
        """Ask the model for the reply of one turn.

        Raises:
            PolicyError: The endpoint gave none.
        """
        messages = sent_messages(context.messages, keep_thinking=self.options.think == "keep")
        sampling = self._sampling(context)
        protocol = context.game.protocol
        stops = protocol.stop_strings[-STOPS_TAKEN:] if self.options.stop else []
        usage = Usage()
        try:
            reply = await self._ask(messages, sampling | ({"stop": stops} if stops else {}))
            usage += reply.usage
            text = closed(reply, stops, protocol)
            if text is None:
                reply = await self._ask(messages, sampling)
                usage += reply.usage
                text = reply.text
        except ContextTooLongError:
            return Reply("", finish="context")
        except EndpointError as error:
            raise PolicyError(str(error)) from error
        text = cut_behind_action(text, protocol)
        return Reply(text, finish=_finish(reply, text, protocol), usage=used(self.model, usage))

    async def aclose(self) -> None:
        """Nothing: connections are closed with the event loop."""

    async def _ask(
        self, messages: Sequence[Mapping[str, Any]], sampling: Mapping[str, Any]
    ) -> ChatReply:
        return await self._client.chat(self.model, messages, role="master", extra=sampling)

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
        return sampling


def sent_messages(messages: Sequence[Message], *, keep_thinking: bool) -> list[dict[str, str]]:
    """The conversation as it is sent."""
    sent = []
    for message in messages:
        content = message["content"]
        if message["role"] == "assistant" and not keep_thinking:
            content = without_thinking(content)
        sent.append({"role": message["role"], "content": content})
    return sent


def closed(reply: ChatReply, stops: Sequence[str], protocol: ReplyProtocol) -> str | None:
    """A reply with the closing tag at which the server stopped; None if that was in reasoning."""
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
    """A reply up to the end of its first action: what follows would not have been generated."""
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
