"""Tags in one long reply: the whole episode is one assistant turn.

The chat template opens the assistant's turn. The model's text is cut after its first closed tag,
the observation is appended unchanged, and the model continues. The released checkpoints of
LongVideoAgent were trained this way. Tags count anywhere, also inside reasoning. They are searched
tool by tool in the game's order, the answer last.

This needs a policy with its own tokens (`hf:`, `vllm:`), because chat servers only take whole
turns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from longvideo_env.game.protocol.base import (
    ANSWER,
    Action,
    Malformed,
    MalformedKind,
    Message,
    ParsedReply,
)
from longvideo_env.game.protocol.reasoning import cut_reasoning
from longvideo_env.game.protocol.tags import TagProtocol


class ContinuationProtocol(TagProtocol):
    """Parses the first closed tag of a reply; see the module's docstring."""

    name = "continuation"
    continues = True

    def parse(self, text: str, options: int | Sequence[str]) -> ParsedReply:
        """Parse a reply. Never raises."""
        has_reasoning = cut_reasoning(text)[1]
        found = self._first(text)
        if found is None:
            return ParsedReply(Malformed(MalformedKind.NO_ACTION), has_reasoning)
        tag, inner = found[1].lower(), found[2].strip()
        return ParsedReply(self._only([(tag, inner)], options), has_reasoning)

    def complete(self, text: str) -> bool:
        """Whether a tag is closed."""
        return self._first(text) is not None

    def cut(self, text: str) -> str:
        """A reply up to the end of its first closed tag, stripped."""
        found = self._first(text)
        return (text if found is None else text[: found.end()]).strip()

    @property
    def endings(self) -> list[str]:
        """The closing tags."""
        return self.stop_strings

    def heard(self, said: Message, text: str) -> list[Message]:
        """An observation as the continuation of the assistant's turn."""
        return [{"role": "assistant", "content": text}]

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """Write an action after its reasoning.

        An empty tag is written as opening and closing tag.
        """
        tag = self.tag(action.name)
        return super().write(action, reasoning).replace(f"<{tag}/>", f"<{tag}></{tag}>")

    def _first(self, text: str) -> re.Match[str] | None:
        if "</" not in text:
            return None
        for name in (*self.offered, ANSWER):
            found = re.search(rf"<({re.escape(self.tag(name))})>(.*?)</\1>", text, re.DOTALL)
            if found is not None:
                return found
        return None
