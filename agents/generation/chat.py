"""Encodes messages into token ids once. Sampled tokens are never decoded and encoded again.

The first prompt is rendered by the tokenizer's chat template as a whole. After that, ids are
carried forward, and an observation is rendered as what it adds. Rendering the whole conversation
each turn would be wrong: templates rewrite earlier turns (Qwen3's drop `<think>` blocks), and text
that is encoded again may give other tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agents.generation.tool_calls import ToolTemplate
from longvideo_env.errors import SpecError
from longvideo_env.game.game import default_game
from longvideo_env.game.policy import Message, Reply
from longvideo_env.game.protocol.base import ReplyProtocol
from longvideo_env.game.protocol.continuation import ContinuationProtocol
from longvideo_env.game.protocol.reasoning import open_reasoning
from longvideo_env.records.trajectory import Segment
from longvideo_env.schema import FrameRef

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Placeholder for a message when only the text around it matters. No template writes it.
_DUMMY = "zqdummyqz"

_N_OPTIONS = 5
"""Number of options used to test a template with tools."""


class ChatCodec:
    """Renders messages with a tokenizer's chat template: a `Codec`.

    Joining the `token_ids` of all segments gives exactly what the model saw. Special tokens inside
    a message (subtitles may contain `<|im_end|>`) are broken up, so no message can end its own
    turn. If a template has no system role, the system message is put before the user message.

    Args:
        tokenizer: A tokenizer with a chat template.
        chat_template_kwargs: Further variables of the template, such as `enable_thinking`.

    Attributes:
        tokenizer: The tokenizer.
        end_of_turn_id: The token that the template writes after an assistant message. If that is no
            special token, the tokenizer's end-of-sequence token.
        generation_prompt: The text that the template writes after a user message to start a reply.
        reply_prefix: The part of it that counts as reply, such as `<think>`.

    Raises:
        SpecError: There is no chat template, or it does not support conversations.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if tokenizer.chat_template is None:
            raise SpecError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no chat template. Fix: "
                "take an instruct checkpoint, or set the tokenizer's `chat_template`."
            )
        self.tokenizer = tokenizer
        self._protocol: ReplyProtocol = default_game().protocol
        self._tools: ToolTemplate | None = None
        self._stops: dict[str, set[int]] = {}
        self._template_kwargs = dict(chat_template_kwargs or {})
        self._special = _special_tokens_pattern(tokenizer)
        self._has_system_role = self._renders_system_role()
        self.generation_prompt = self._after_dummy([_message("user", _DUMMY)])
        self.reply_prefix = open_reasoning(self.generation_prompt)
        self.end_of_turn_id, self._end_of_turn = self._find_end_of_turn()
        self._has_tag_end: dict[int, bool] = {}

    @property
    def protocol(self) -> ReplyProtocol:
        """Decides when a reply is complete. The engine sets the game's protocol.

        Raises:
            SpecError: The protocol offers tools, and the template does not support them.
        """
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: ReplyProtocol) -> None:
        self._tools, self._stops = None, {}
        if protocol.name == "functions":
            schemas = protocol.schemas(_N_OPTIONS)
            name, special = self.tokenizer.name_or_path, self._special
            self._tools = ToolTemplate(self, schemas, f"the chat template of {name!r}", special)
        self._protocol = protocol

    @property
    def end_ids(self) -> set[int]:
        """Tokens with which the template ends an assistant turn."""
        return {self.end_of_turn_id} | (set() if self._tools is None else {self._tools.end_id})

    def open(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Segment]:
        """The first prompt as one segment, up to the start of the reply.

        Raises:
            SpecError: The template refuses the messages.
        """
        disarmed = [self._disarm(m) for m in self._without_system_role(messages)]
        text = self.render(disarmed, tools)
        frames = tuple(frame for m in messages for frame in m.get("frames", ()))
        return [Segment("prompt", text, token_ids=self.encode_with(text, frames), frames=frames)]

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        """The end-of-turn token, unless the reply ends with it."""
        end = self.end_of_turn_id
        if self._tools is not None and "tool_calls" in self.protocol.said(reply.written, turn):
            end = self._tools.end_id
        if reply.token_ids and reply.token_ids[-1] == end:
            return []
        return [Segment("assistant", self.decode([end]), turn=turn, token_ids=(end,))]

    def observe(self, text: str, turn: int, frames: tuple[FrameRef, ...] = ()) -> list[Segment]:
        """The text after the end-of-turn token: the observation and the next generation prompt.

        If the protocol continues the assistant's turn, only the observation.

        Raises:
            SpecError: The template refuses the message.
        """
        observation = self._disarm(_message("user", text))
        if frames:
            observation["frames"] = frames
        if self.protocol.continues:
            text = observation["content"]
            return [Segment("user", text, turn=turn, token_ids=self.encode(text))]
        messages = [_message("user", "."), _message("assistant", _DUMMY), observation]
        after = self._after_dummy(messages)
        suffix = after[after.index(self._end_of_turn) + len(self._end_of_turn) :]
        return [self._suffix("user", self._end_of_turn, suffix, turn, frames)]

    def answer(self, messages: Sequence[Message], turn: int) -> list[Segment]:
        """The text after the calls: their results and the next generation prompt.

        Raises:
            SpecError: The template refuses the messages.
        """
        assert self._tools is not None, "only used by protocols with calls"
        suffix = self._tools.suffix([self._disarm(message) for message in messages])
        frames = messages[-1].get("frames", ())
        return [self._suffix("tool", self._tools.end, suffix, turn, frames)]

    def write(self, written: str, turn: int) -> str:
        """Rewrite a reply from the protocol's form into this model's form.

        Args:
            written: The reply in the protocol's form, such as a script's.
            turn: The turn.

        Raises:
            SpecError: The template refuses it.
        """
        said = self.protocol.said(written, turn)
        if self._tools is None or "tool_calls" not in said:
            return said["content"]
        return self._tools.write(said)

    def read(self, token_ids: Sequence[int]) -> Mapping[str, Any] | None:
        """Parse a reply into an assistant message with calls. None if actions are text."""
        if self._tools is None:
            return None
        ended = bool(token_ids) and token_ids[-1] in self.stop_ids(None)
        body = token_ids[:-1] if ended else token_ids
        return self._tools.read(self.decode(token_ids), self.decode(body))

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of rendered text. Special tokens are recognised; none are added."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def encode_with(self, text: str, frames: tuple[FrameRef, ...]) -> tuple[int, ...]:
        """The same with image tokens for frames, which this codec does not support."""
        assert not frames, "only a seeing codec gets frames"
        return self.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        text = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)  # lists of lists would give a list
        return text

    def cut(self, reply: Reply) -> Reply:
        """Cut a reply after its first closed tag, for protocols that continue the assistant's turn.

        Text after the tag, whitespace around the reply and the end-of-turn token are removed. If
        the cut is between tokens, the sampled tokens are kept. Otherwise the text is encoded again,
        without log-probs, as in the training of the released checkpoints.
        """
        protocol = self.protocol
        if not isinstance(protocol, ContinuationProtocol) or reply.token_ids is None:
            return reply
        ended = {*self.tokenizer.all_special_ids}
        text = protocol.cut(self.decode([i for i in reply.token_ids if i not in ended]))
        ids = self.encode(text)
        known = reply.token_ids[: len(ids)] == ids
        logprobs = reply.logprobs[: len(ids)] if known and reply.logprobs is not None else None
        return replace(reply, text=text, token_ids=ids, logprobs=logprobs)

    def has_tag_end(self, token_id: int) -> bool:
        """Whether a token's text contains `>`, which every closing tag needs."""
        known = self._has_tag_end.get(token_id)
        if known is None:
            known = self._has_tag_end[token_id] = ">" in self.decode([token_id])
        return known

    def stop_ids(self, eos_token_id: int | Sequence[int] | None) -> set[int]:
        """Tokens that end a reply: end of turn, and every end of sequence.

        Args:
            eos_token_id: End of sequence in the checkpoint's generation config.
        """
        known = self._stops.get(repr(eos_token_id))
        if known is None:
            ids = {self.end_of_turn_id}
            if self._tools is not None:
                ids = {self._tools.end_id} | (set() if self._tools.thinks_in_turns else ids)
            for eos in (self.tokenizer.eos_token_id, eos_token_id):
                if eos is not None:
                    ids.update([eos] if isinstance(eos, int) else eos)
            known = self._stops[repr(eos_token_id)] = ids
        return known

    def closes_action(self, token_ids: Sequence[int]) -> bool:
        """Whether the newest token of an unfinished reply closes an action."""
        if not self.protocol.endings or not self.has_tag_end(token_ids[-1]):
            return False
        return self.protocol.complete(self.reply_prefix + self.decode(token_ids))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        generate: bool = True,
    ) -> str:
        """Render messages to text.

        Args:
            messages: Chat messages.
            tools: JSON schemas of the offered tools.
            generate: Start a reply at the end.

        Raises:
            SpecError: The template refuses them.
        """
        from jinja2 import TemplateError

        offered: dict[str, Any] = {"tools": list(tools)} if tools else {}
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=generate,
                **offered,
                **self._template_kwargs,
            )
        except (TemplateError, TypeError, ValueError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise SpecError(
                f"the chat template of {self.tokenizer.name_or_path!r} refuses messages of "
                f"{roles}: {error}"
            ) from error
        assert isinstance(text, str)  # `tokenize=False`
        return text

    def _suffix(
        self, role: str, end: str, suffix: str, turn: int, frames: tuple[FrameRef, ...]
    ) -> Segment:
        # Encoded with the token before, because some tokenizers put a space before the first token.
        token_ids = self.encode_with(end + suffix, frames)[1 if end else 0 :]
        return Segment(role, suffix, turn=turn, token_ids=token_ids, frames=frames)

    def _after_dummy(self, messages: Sequence[Message]) -> str:
        """The text that the template writes after the placeholder message."""
        _, dummy, after = self.render(messages).partition(_DUMMY)
        if not dummy:
            roles = ", ".join(message["role"] for message in messages)
            raise SpecError(
                f"the chat template of {self.tokenizer.name_or_path!r} leaves messages out: one of "
                f"{roles} is missing. Fix: set a `chat_template` that keeps them all."
            )
        return after

    def _renders_system_role(self) -> bool:
        """Whether the template supports system messages. Some raise, some leave it out."""
        try:
            return _DUMMY in self.render([_message("system", _DUMMY), _message("user", ".")])
        except SpecError:
            return False

    def _without_system_role(self, messages: Sequence[Message]) -> list[Message]:
        if self._has_system_role or not messages or messages[0]["role"] != "system":
            return list(messages)
        if len(messages) == 1:
            return [_message("user", messages[0]["content"])]
        joined = messages[1].copy()
        joined["content"] = f"{messages[0]['content']}\n\n{messages[1]['content']}"
        return [joined, *messages[2:]]

    def _find_end_of_turn(self) -> tuple[int, str]:
        """The token that ends an assistant turn, and its text in the template."""
        messages = [_message("user", "."), _message("assistant", _DUMMY), _message("user", ".")]
        after = self._after_dummy(messages).lstrip()
        first = self.encode(after)[0]
        text = self.decode([first])
        if self._special is not None and self._special.fullmatch(text) and after.startswith(text):
            return first, text
        if self.tokenizer.eos_token_id is None:
            raise SpecError(
                f"the chat template of {self.tokenizer.name_or_path!r} ends the assistant's turn "
                "with no special token, and the tokenizer has no end-of-sequence token. Fix: "
                "set the tokenizer's `eos_token`."
            )
        return int(self.tokenizer.eos_token_id), ""

    def _disarm(self, message: Message) -> Message:
        if self._special is None:
            return message
        disarmed = message.copy()
        for key in ("content", "name"):
            if key in message:
                text = self._special.sub(lambda m: f"{m[0][0]} {m[0][1:]}", message[key])
                disarmed[key] = text
        return disarmed


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _special_tokens_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    special = {
        token.content for token in tokenizer.added_tokens_decoder.values() if token.special
    } | set(tokenizer.all_special_tokens)
    texts = sorted(map(re.escape, special - {""}))
    return re.compile("|".join(texts)) if texts else None
