"""Messages into token ids, once: what was sampled is never decoded and encoded again.

The first prompt is rendered by the tokenizer's chat template as a whole. After that, ids are
carried forward, and an observation is rendered as what it adds. Rendering the whole conversation
anew each turn would not do: templates rewrite earlier turns (Qwen3's drop their `<think>` blocks),
and text that is encoded a second time may become other tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from longvideo_env.errors import SpecError
from longvideo_env.game.game import default_game
from longvideo_env.game.policy import Message, Reply
from longvideo_env.game.protocol.base import ReplyProtocol
from longvideo_env.game.protocol.reasoning import open_reasoning
from longvideo_env.records.trajectory import Segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stands for a message where only what surrounds it matters. No template writes it by itself.
_DUMMY = "zqdummyqz"


class ChatCodec:
    """Renders messages with a tokenizer's chat template: a `Codec`.

    Joining the `token_ids` of all segments gives exactly what the model saw. Special tokens inside
    a message (subtitles could hold `<|im_end|>`) are broken up, so that no message can end its
    own turn. A template without a system role gets the system message at the head of the user's.

    Args:
        tokenizer: A tokenizer with a chat template.
        chat_template_kwargs: Further variables of the template, such as `enable_thinking`.

    Attributes:
        tokenizer: The tokenizer.
        protocol: Says when a reply is complete; an engine sets its game's.
        end_of_turn_id: The token that the template writes after an assistant's message; the
            tokenizer's end-of-sequence token where the template writes no special one.
        reply_prefix: What the template opens a reply with that belongs to it, such as `<think>`.

    Raises:
        SpecError: There is no chat template, or it cannot hold a conversation.
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
        self.protocol: ReplyProtocol = default_game().protocol
        self._template_kwargs = dict(chat_template_kwargs or {})
        self._special = _special_tokens_pattern(tokenizer)
        self._has_system_role = self._renders_system_role()
        generation_prompt = self._after_dummy([_message("user", _DUMMY)])
        self.reply_prefix = open_reasoning(generation_prompt)
        self.end_of_turn_id, self._end_of_turn = self._find_end_of_turn()
        self._has_tag_end: dict[int, bool] = {}

    def open(self, messages: Sequence[Message]) -> list[Segment]:
        """The first prompt, as one segment, up to where the reply begins.

        Raises:
            SpecError: The template refuses the messages.
        """
        text = self._render([self._disarm(m) for m in self._without_system_role(messages)])
        return [Segment("prompt", text, token_ids=self.encode(text))]

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        """The end-of-turn token, unless the reply ends with it."""
        if reply.token_ids and reply.token_ids[-1] == self.end_of_turn_id:
            return []
        text = self.decode([self.end_of_turn_id])
        return [Segment("assistant", text, turn=turn, token_ids=(self.end_of_turn_id,))]

    def observe(self, text: str, turn: int) -> list[Segment]:
        """What follows the end-of-turn token: the observation and the next generation prompt.

        Raises:
            SpecError: The template refuses the message.
        """
        observation = self._disarm(_message("user", text))
        messages = [_message("user", "."), _message("assistant", _DUMMY), observation]
        after = self._after_dummy(messages)
        suffix = after[after.index(self._end_of_turn) + len(self._end_of_turn) :]
        # Encoded together with the token before it: some tokenizers put a space before the first.
        token_ids = self.encode(self._end_of_turn + suffix)
        if self._end_of_turn:
            token_ids = token_ids[1:]
        return [Segment("user", suffix, turn=turn, token_ids=token_ids)]

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of rendered text, special tokens as such and none added."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        text = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)  # a list of texts is for lists of lists
        return text

    def has_tag_end(self, token_id: int) -> bool:
        """Whether a token's text holds `>`, without which no action can be closed."""
        known = self._has_tag_end.get(token_id)
        if known is None:
            known = self._has_tag_end[token_id] = ">" in self.decode([token_id])
        return known

    def stop_ids(self, eos_token_id: int | Sequence[int] | None) -> set[int]:
        """The tokens that end a reply: the end of a turn, and every end of sequence.

        Args:
            eos_token_id: What the checkpoint's generation config calls end of sequence.
        """
        ids = {self.end_of_turn_id}
        for eos in (self.tokenizer.eos_token_id, eos_token_id):
            if eos is not None:
                ids.update([eos] if isinstance(eos, int) else eos)
        return ids

    def closes_action(self, token_ids: Sequence[int]) -> bool:
        """Whether the newest token of a unfinished reply closes an action."""
        if not self.has_tag_end(token_ids[-1]):
            return False
        return self.protocol.complete(self.reply_prefix + self.decode(token_ids))

    def _render(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": m["role"], "content": m["content"]} for m in messages],
                tokenize=False,
                add_generation_prompt=True,
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

    def _after_dummy(self, messages: Sequence[Message]) -> str:
        """What the template writes after the content of the first message that is the dummy."""
        _, dummy, after = self._render(messages).partition(_DUMMY)
        if not dummy:
            roles = ", ".join(message["role"] for message in messages)
            raise SpecError(
                f"the chat template of {self.tokenizer.name_or_path!r} leaves messages out: of "
                f"{roles}, one did not come. Fix: set a `chat_template` that keeps them all."
            )
        return after

    def _renders_system_role(self) -> bool:
        """Whether the template takes a system message; some raise, some leave it out."""
        try:
            return _DUMMY in self._render([_message("system", _DUMMY), _message("user", ".")])
        except SpecError:
            return False

    def _without_system_role(self, messages: Sequence[Message]) -> list[Message]:
        if self._has_system_role or not messages or messages[0]["role"] != "system":
            return list(messages)
        if len(messages) == 1:
            return [_message("user", messages[0]["content"])]
        joined = f"{messages[0]['content']}\n\n{messages[1]['content']}"
        return [_message(messages[1]["role"], joined), *messages[2:]]

    def _find_end_of_turn(self) -> tuple[int, str]:
        """The token that ends an assistant's turn, and how the template writes it."""
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
        content = self._special.sub(lambda m: f"{m[0][0]} {m[0][1:]}", message["content"])
        return _message(message["role"], content)


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _special_tokens_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    special = {
        token.content for token in tokenizer.added_tokens_decoder.values() if token.special
    } | set(tokenizer.all_special_tokens)
    texts = sorted(map(re.escape, special - {""}))
    return re.compile("|".join(texts)) if texts else None
