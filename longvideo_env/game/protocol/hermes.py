"""Calls in the Hermes format inside the text, and the answer in a tag.

    <think>...</think><tool_call>{"name": "crop_video", "arguments": {"start_time": 5}}</tool_call>
    <think>...</think><answer>a0</answer>

As with tags, it works with any chat template, and a reply ends at the closing tag. A call is parsed
as in the protocol `functions`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from longvideo_env.game.protocol.answers import AnswerForm
from longvideo_env.game.protocol.base import (
    ANSWER,
    TAG_SETS,
    Action,
    Malformed,
    MalformedKind,
    Outcome,
    TagSet,
)
from longvideo_env.game.protocol.functions import FunctionProtocol, written_call
from longvideo_env.game.protocol.tags import TagProtocol
from longvideo_env.tools.tool import Tool

CALL = "tool_call"
_SHOWN = 80


class HermesProtocol(TagProtocol):
    """Parses and writes actions as `<tool_call>` with JSON inside, and `<answer>`.

    Args:
        tools: All tools of the game.
        offered: Names of the tools that the master may use.
        tags: The tag set. Its `answer` is the answer's tag.
        answers: How answers are written.

    Raises:
        SpecError: A tool is called `answer`.
    """

    name = "hermes"

    def __init__(
        self,
        tools: Sequence[Tool],
        offered: Sequence[str],
        tags: TagSet = TAG_SETS["reference"],
        answers: AnswerForm | None = None,
    ) -> None:
        self._calls = FunctionProtocol(tools, offered, tags, answers)
        super().__init__(tools, offered, tags, answers)

    @property
    def endings(self) -> list[str]:
        """The two closing tags."""
        return self.stop_strings

    @property
    def stop_strings(self) -> list[str]:
        """The two closing tags."""
        return [f"</{self.tags.answer}>", f"</{CALL}>"]

    def tag(self, name: str) -> str:
        """A tool's name, or the tag of the answer."""
        return self.tags.answer if name == ANSWER else name

    def write(self, action: Action, reasoning: str | None = None) -> str:
        """Write an action after its reasoning: the inverse of `parse`."""
        if action.name == ANSWER:
            return super().write(action, reasoning)
        thought = self.tags.reasoning
        before = "" if reasoning is None else f"<{thought}>{reasoning}</{thought}>"
        return f"{before}<{CALL}>{self._calls.write(action)}</{CALL}>"

    def _tag_names(self, tools: Sequence[Tool]) -> dict[str, str]:
        return {CALL: CALL, self.tags.answer: ANSWER}

    def _needs_nothing(self, name: str) -> bool:
        return False

    def _only(self, found: list[tuple[str, str | None]], options: int | Sequence[str]) -> Outcome:
        if len(found) != 1 or self._names[found[0][0]] == ANSWER:
            return super()._only(found, options)
        text = found[0][1] or ""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            details = {"tag": CALL, "said": text[:_SHOWN], "problem": "it is not JSON"}
            return Malformed(MalformedKind.BROKEN_CALL, details)
        return self._calls.read_call(written_call(value), options)
