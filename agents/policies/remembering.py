"""A policy that sees the earlier questions of a chat and its answers.

    master = RememberingPolicy(policy)
    master.remember("Who opens the box?", "the old man")

They are put before the first user message, in messages and in tokens. Tools do not see them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from longvideo_env.game.policy import Codec, Context, Message, Policy, Reply, let_see
from longvideo_env.game.protocol.base import ReplyProtocol
from longvideo_env.records.trajectory import Segment
from longvideo_env.schema import FrameRef

MOST = 10
"""Number of questions remembered: the last ones."""

_HEAD = "Earlier questions about this video, and what you answered:"


class _Earlier:
    """A codec whose first prompt contains the earlier questions."""

    def __init__(self, inner: Codec, kept: deque[str]) -> None:
        self._inner, self._kept = inner, kept

    @property
    def protocol(self) -> ReplyProtocol:
        return self._inner.protocol

    @protocol.setter
    def protocol(self, protocol: ReplyProtocol) -> None:
        self._inner.protocol = protocol

    def open(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Segment]:
        told = _told(messages, self._kept)
        return self._inner.open(told, tools) if tools else self._inner.open(told)

    def close(self, reply: Reply, turn: int) -> list[Segment]:
        return self._inner.close(reply, turn)

    def observe(self, text: str, turn: int, frames: tuple[FrameRef, ...] = ()) -> list[Segment]:
        return self._inner.observe(text, turn, *([frames] if frames else []))

    def answer(self, messages: Sequence[Message], turn: int) -> list[Segment]:
        return self._inner.answer(messages, turn)


class RememberingPolicy:
    """See the module's docstring.

    Args:
        inner: The policy.
    """

    def __init__(self, inner: Policy) -> None:
        self._inner = inner
        self._kept: deque[str] = deque(maxlen=MOST)
        self.codec: Codec = _Earlier(inner.codec, self._kept)

    def remember(self, question: str, answer: str) -> None:
        """Store a question with its answer."""
        self._kept.append(f"- {question}\n  {answer}")

    def see(self, resolution: int) -> None:
        """Passed on to the policy."""
        let_see(self._inner, type(self._inner).__name__, resolution)

    async def act(self, context: Context, /) -> Reply:
        """Reply, with the earlier questions in the conversation."""
        return await self._inner.act(replace(context, messages=_told(context.messages, self._kept)))

    async def aclose(self) -> None:
        """Release what the policy holds."""
        await self._inner.aclose()


def _told(messages: Sequence[Message], kept: Sequence[str]) -> Sequence[Message]:
    first = next((i for i, one in enumerate(messages) if one["role"] == "user"), None)
    if not kept or first is None:
        return messages
    told: Message = {**messages[first]}
    told["content"] = "\n".join([_HEAD, *kept, "", messages[first]["content"]])
    return [*messages[:first], told, *messages[first + 1 :]]
