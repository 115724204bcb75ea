"""Tags in one long reply: the whole episode is one turn of the assistant.

After the chat template has opened the assistant's turn, what the model writes is cut behind its
first closed tag, each observation is appended as it is, and the model writes on. So the released
checkpoints of LongVideoAgent were trained. Tags count wherever they stand, inside reasoning too,
and are looked for tool by tool in the order in which the game names them, the answer last.

A policy needs its own tokens for this (`hf:`, `vllm:`): a server's chat knows only turns.
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
    """Reads the first closed tag of a reply; see the module's docstring."""

    name = "continuation"
    continues = True

    def parse(self, text: str, options: int | Sequence[str]) -> ParsedReply:
        """Understand a reply. Never raises, whatever the text."""
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
        """A reply up to the end of its first closed tag, without blanks around it."""
        found = self._first(text)
        return (text if found is None else text[: found.end()]).strip()

    @property
    def endings(self) -> list[str]:
        """The closing tags."""
        return self.stop_strings

    def heard(self, said: Message, text: str) -> list[Message]:
        """An observation: the assistant's turn goes on with it."""
        return [{"role": "assistant", "content": text}]

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """Write an action down, behind reasoning; an empty tag is closed by a tag of its own."""
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
